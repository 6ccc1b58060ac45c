import { setTimeout as sleep } from 'node:timers/promises';
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
import { DELTA_ARTIFACT } from '../../shared/oci/media-types.ts';
import type { PlanWay } from '../../shared/plan.ts';
import type { Config } from '../config.ts';
import type { GatewayApi, JobAnswer } from '../net/gateway-api.ts';
import type { HeldImage, Storage } from '../storage/storage.ts';
import { readDelta } from './delta-artifact.ts';
import type { UpdateEvents } from './events.ts';
import type { Target } from './target.ts';
import type { Trust } from './trust.ts';
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
  /** Why there are no deltas, where that is not for lack of a source. */
  readonly reason?: string;
};

/** The chosen way, and why it is not a delta where one could have been expected. */
export type Choice = { readonly way: Way; readonly fallbackReason?: string | undefined };

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
  return { full, deltas };
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
  for (const offer of inOrder(context, offers.deltas)) {
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

/**
 * The offers in the order in which they are tried: as they come, but one in a more wanted format than
 * what is ready is waited for where it is made sooner than the ready one is fetched.
 */
function inOrder(
  { config, lineRate, formats }: ChooseContext,
  offers: readonly OfferedDelta[],
): OfferedDelta[] {
  const ready = offers.find((offer) => offer.state === 'ready');
  const readyBytes = ready?.bytes ?? 0;
  if (ready === undefined || readyBytes < config.smallestDelta) return [...offers];
  const rank = ({ format }: OfferedDelta) => {
    const needs = format === undefined ? undefined : parseFormatName(format);
    const found = formats.findIndex((has) => needs !== undefined && covers(has, needs));
    return found < 0 ? formats.length : found;
  };
  const isWorthIt = (offer: OfferedDelta) => {
    const make = offer.seconds?.make;
    if (offer.state === 'ready' || make === undefined || rank(offer) >= rank(ready)) return false;
    return lineRate === undefined || make < readyBytes / lineRate;
  };
  return [...offers.filter(isWorthIt), ...offers.filter((offer) => !isWorthIt(offer))];
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

async function tryDelta(
  { config, source, trust, storage, formats, signal }: ChooseContext,
  target: Target,
  held: HeldImage,
  artifact: Digest,
): Promise<Way> {
  const expected = { target, sourceConfig: held.config };
  const delta = await readDelta(source, artifact, expected, trust, signal);
  const window = delta.bounds?.windowBytes ?? 0;
  if (window > 2 ** config.limits.windowLog) {
    throw new SnapgateError('LIMIT_EXCEEDED', `the delta needs a window of ${window} bytes`);
  }
  const format = delta.bounds?.format;
  if (format !== undefined && !isReadable(formats, nameOfNote(format) ?? format)) {
    throw new SnapgateError('UNSUPPORTED', `the delta is for other machines: ${printable(format)}`);
  }
  const way = await deltaWay(target, storage, held, delta);
  return { ...way, bytes: way.bytes + delta.size };
}

/** Has a delta made. Throws JOB_FAILED when that fails or takes longer than configured. */
async function waitForDelta(
  context: ChooseContext,
  target: Target,
  offer: OfferedDelta,
): Promise<Digest> {
  const { api, config, events, signal } = context;
  const pause = context.pause ?? pauseFor;
  const longest = config.waits.deltaSeconds;
  if (api === undefined || longest === 0) throw notMade('it is not made yet');
  const request = {
    source: offer.held.config,
    target: target.manifest.digest,
    ...(offer.format === undefined ? {} : { format: offer.format }),
  };
  events.step('wait', 'the gateway makes the delta');
  let answer: JobAnswer = await api.requestDelta(request, signal);
  for (let waited = 0; ; ) {
    const { job, retryAfter } = answer;
    if (job.artifact !== undefined) return job.artifact.digest;
    if (job.state === 'failed' || job.state === 'done') {
      throw notMade(
        job.error === undefined ? 'it failed' : `${job.error.code}: ${job.error.message}`,
      );
    }
    events.progress(Math.round((job.progress ?? 0) * 100), 100, 'parts');
    const seconds = Math.min(60, Math.max(1, retryAfter));
    if (waited + seconds > longest) throw notMade(`not within ${longest} s`);
    await pause(seconds * 1000, signal);
    waited += seconds;
    answer = await api.deltaJob(job.id, signal);
  }
}

function notMade(why: string): SnapgateError {
  return new SnapgateError('JOB_FAILED', `the gateway made no delta: ${printable(why)}`);
}

function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 300);
}

async function pauseFor(milliseconds: number, signal?: AbortSignal): Promise<void> {
  await sleep(milliseconds, undefined, signal === undefined ? {} : { signal });
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
