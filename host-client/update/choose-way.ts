import { DELTA_ANNOTATION } from '../../shared/delta/annotations.ts';
import {
  covers,
  formatName,
  type LayerFormat,
  nameOfNote,
  parseFormatName,
} from '../../shared/delta/formats.ts';
import type { Digest } from '../../shared/digest.ts';
import { type ErrorCode, SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import type { Platform } from '../../shared/oci/manifest.ts';
import { DELTA_ARTIFACT } from '../../shared/oci/media-types.ts';
import type { PlanWay } from '../../shared/plan.ts';
import { printable } from '../../shared/signing/verdict.ts';
import type { Config } from '../config.ts';
import type { GatewayApi } from '../net/gateway-api.ts';
import type { HeldImage, Storage } from '../storage/storage.ts';
import { type Chain, type OfferedChain, openChain } from './chain.ts';
import { readDelta, type TrustedDelta } from './delta-artifact.ts';
import type { UpdateEvents } from './events.ts';
import { orderOffers } from './order-offers.ts';
import type { Target } from './target.ts';
import type { Trust } from './trust.ts';
import { waitForDelta } from './wait-for-delta.ts';
import { deltaWay, fullWay, type Way } from './ways.ts';

/** Most images that a gateway is told of. */
const MAX_HAVE = 64;
const SOURCE_CONFIG = `${DELTA_ANNOTATION}source-config`;

/** What choosing a way needs. */
export type ChooseContext = {
  readonly config: Pick<Config, 'limits' | 'waits' | 'smallestDelta'>;
  readonly source: ContentReader;
  /** Undefined for a registry that is known to be no gateway, and for a file. */
  readonly api: GatewayApi | undefined;
  readonly trust: Trust;
  readonly platform: Platform;
  readonly storage: Pick<Storage, 'presentDepth' | 'holdsLayer'>;
  readonly events: UpdateEvents;
  /** The formats that can be applied here, most wanted first. */
  readonly formats: readonly LayerFormat[];
  /** Bytes a second of the line, as far as anything is known of it. */
  readonly lineRate?: number | undefined;
  readonly signal?: AbortSignal;
  /** Pauses between questions; tests replace it. Milliseconds. */
  readonly pause?: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
};

/** A delta that the gateway speaks of, from an image that is held. Only advice. */
export type OfferedDelta = PlanWay & { readonly held: HeldImage };

/** What there is to choose from. */
export type Offers = {
  readonly full: Way;
  /** Ready ones first, smallest first. */
  readonly deltas: readonly OfferedDelta[];
  /** Smallest first; all are ready. */
  readonly chains?: readonly OfferedChain[];
  /** Why there are no deltas, where that is not for lack of a source. */
  readonly reason?: string;
};

/**
 * The chosen way, and why it is not a delta where one could have been expected. A chain is gone
 * instead of the way, where there is one.
 */
export type Choice = {
  readonly way: Way;
  readonly chain?: Chain;
  readonly fallbackReason?: string | undefined;
};

/**
 * Asks which ways there are. The gateway's answer is advice: what does not fit the signed target is
 * dropped, and the full way comes from the signed manifest. `held` are the images of the machine,
 * most wanted source first.
 */
export async function findOffers(
  context: ChooseContext,
  target: Target,
  held: readonly HeldImage[],
): Promise<Offers> {
  const full = await fullWay(target, context.storage);
  const { api, signal } = context;
  if (full.bytes === 0 || held.length === 0) return { full, deltas: [] };
  const sources = held.slice(0, MAX_HAVE);
  const { formats } = context;
  if (api === undefined) return { full, deltas: await attachedDeltas(context, target, sources) };
  const request = {
    target: target.manifest.digest,
    have: sources.map((image) => image.config),
    formats: formats.map(formatName),
  };
  const plan = await orReason(() => api.plan(request, signal));
  if (plan === undefined) return { full, deltas: [], reason: 'the registry is no gateway' };
  if (typeof plan === 'string') return { full, deltas: [], reason: plan };
  const { manifest, config } = plan.target;
  if (manifest !== target.manifest.digest || config !== target.config) {
    return { full, deltas: [], reason: 'the gateway planned for another image' };
  }
  const deltas = plan.ways.flatMap((way): OfferedDelta[] => {
    const image = sources.find((candidate) => candidate.config === way.sourceConfig);
    const isKnown = way.format === undefined || isReadable(formats, way.format);
    return way.method === 'delta' && image !== undefined && isKnown
      ? [{ ...way, held: image }]
      : [];
  });
  const chains = (plan.chains ?? []).flatMap((chain): OfferedChain[] => {
    const image = sources.find((candidate) => candidate.config === chain.sourceConfig);
    return image === undefined ? [] : [{ ...chain, held: image }];
  });
  return { full, deltas, chains };
}

/** Whether a machine that reads some formats reads one by its name. */
function isReadable(formats: readonly LayerFormat[], name: string): boolean {
  const format = parseFormatName(name);
  return format !== undefined && formats.some((has) => covers(has, format));
}

/**
 * The deltas that are attached to the target where nobody plans: in the order of the sources. What
 * is said of them is a hint; each is judged and read before it is used.
 */
async function attachedDeltas(
  { source, signal }: ChooseContext,
  target: Target,
  sources: readonly HeldImage[],
): Promise<OfferedDelta[]> {
  const listed = await source.listReferrers(target.manifest.digest, signal);
  const deltas = listed.filter(({ artifactType }) => artifactType === DELTA_ARTIFACT);
  return sources.flatMap((held) =>
    deltas
      .filter(({ annotations }) => annotations?.[SOURCE_CONFIG] === held.config)
      .map(({ digest, size }) => ({
        ...{ method: 'delta' as const, state: 'ready' as const, held },
        artifact: { digest, size },
      })),
  );
}

/**
 * Chooses the way with the fewest bytes. A delta that is not made yet is asked for and waited for
 * where the full pull is large enough to be worth it; whatever keeps a delta from being used is the
 * reason for the full way, never an error. Throws what keeps the registry from answering at all.
 */
export async function chooseWay(
  context: ChooseContext,
  target: Target,
  offers: Offers,
): Promise<Choice> {
  const { full } = offers;
  const reasons: string[] = offers.reason === undefined ? [] : [offers.reason];
  if (full.bytes === 0) return { way: full };
  for (const offer of orderOffers(context, offers)) {
    if ('steps' in offer) {
      const chain = await readyChain(context, target, offer);
      if (typeof chain === 'string') reasons.push(chain);
      else if (chain.bytes < full.bytes) return { way: full, chain };
      else reasons.push('the chain of deltas is not smaller than the full pull');
      continue;
    }
    if (offer.state === 'refused') {
      reasons.push(offer.reason ?? 'the gateway makes no delta');
      continue;
    }
    if (offer.artifact === undefined && full.bytes < context.config.smallestDelta) continue;
    const found = await orReason(async () => {
      const artifact = offer.artifact?.digest ?? (await waitForDelta(context, target, offer));
      return await tryDelta(context, target, offer.held, artifact);
    });
    if (typeof found === 'string') reasons.push(found);
    else if (found.bytes < full.bytes) return { way: found };
    else reasons.push('the delta is not smaller than the full pull');
  }
  const fallbackReason = [...new Set(reasons)].join('; ');
  return { way: full, ...(fallbackReason === '' ? {} : { fallbackReason }) };
}

/** The way through a delta that is made; or why it cannot be gone. */
export async function readyWay(
  context: ChooseContext,
  target: Target,
  held: HeldImage,
  artifact: Digest,
): Promise<Way | string> {
  return orReason(() => tryDelta(context, target, held, artifact));
}

/** A chain whose deltas are made; or why it cannot be gone. */
export async function readyChain(
  context: ChooseContext,
  target: Target,
  offer: OfferedChain,
): Promise<Chain | string> {
  return orReason(() => openChain(context, target, offer));
}

async function tryDelta(
  context: ChooseContext,
  target: Target,
  held: HeldImage,
  artifact: Digest,
): Promise<Way> {
  const delta = await judgeDelta(context, target, held.config, artifact);
  const way = await deltaWay(target, context.storage, held, delta);
  return { ...way, bytes: way.bytes + delta.size };
}

/**
 * Reads a delta that is signed and made for machines like this one. Throws LIMIT_EXCEEDED,
 * UNSUPPORTED, and as readDelta.
 */
export async function judgeDelta(
  { config, source, trust, formats, signal }: ChooseContext,
  target: Target,
  sourceConfig: Digest,
  artifact: Digest,
): Promise<TrustedDelta> {
  const expected = { target, sourceConfig };
  const delta = await readDelta(source, artifact, expected, trust, signal);
  const window = delta.bounds?.windowBytes ?? 0;
  if (window > 2 ** config.limits.windowLog) {
    throw new SnapgateError('LIMIT_EXCEEDED', `the delta needs a window of ${window} bytes`);
  }
  const format = delta.bounds?.format;
  if (format !== undefined && !isReadable(formats, nameOfNote(format) ?? format)) {
    throw new SnapgateError(
      'UNSUPPORTED',
      `the delta is for other machines: ${printable(format, 300)}`,
    );
  }
  return delta;
}

/** What stops the full pull as well; everything else is a reason to take it. */
const FATAL: readonly ErrorCode[] = [
  ...(['UNAUTHORIZED', 'DENIED', 'UPSTREAM_UNREACHABLE', 'UPSTREAM_TIMEOUT'] as const),
  ...(['CONFIG_INVALID', 'KEY_INVALID', 'USAGE', 'NO_SPACE'] as const),
];
/** So are internal errors, a wish to stop, and whatever is busy or not allowed now. */
const FATAL_EXITS: readonly number[] = [1, 7];

/** Why a delta or part of it cannot be used; undefined for an error that stops everything. */
export function fallbackReasonOf(thrown: unknown): string | undefined {
  const error = toSnapgateError(thrown);
  const isFatal = FATAL.includes(error.code) || FATAL_EXITS.includes(error.exitStatus);
  return isFatal ? undefined : `${error.code}: ${error.message}`;
}

async function orReason<T>(action: () => Promise<T>): Promise<T | string> {
  try {
    return await action();
  } catch (thrown) {
    const reason = fallbackReasonOf(thrown);
    if (reason === undefined) throw thrown;
    return reason;
  }
}
