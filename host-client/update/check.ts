import type { Digest } from '../../shared/digest.ts';
import type { PlanWay } from '../../shared/plan.ts';
import type { OfferedChain } from './chain.ts';
import {
  type ChooseContext,
  findOffers,
  type OfferedDelta,
  readyChain,
  readyWay,
} from './choose-way.ts';
import { secondsOf, secondsOfChain, type WaySeconds } from './estimate.ts';
import { channelName, type Machine } from './machine.ts';
import { contextOf } from './obtain-image.ts';
import { sortSources } from './sources.ts';
import { readTarget, resolveTarget, type Target } from './target.ts';
import { importWay, type Way } from './ways.ts';

/** One way to the target. */
export type CheckedWay = {
  readonly method: 'delta' | 'full';
  readonly state: PlanWay['state'];
  /** Exact bytes on the line, from signed manifests; null for what cannot be fetched now. */
  readonly bytes: number | null;
  /** How long it takes, by parts; estimates. */
  readonly seconds: WaySeconds;
  /** Config digest of the held image that a delta starts from. */
  readonly source: Digest | null;
  /** How many deltas are applied one after the other; 0 for whole layers. */
  readonly steps: number;
  readonly reason: string | null;
};

/** What `check --json` prints. */
export type CheckReport = {
  readonly update: boolean;
  /** Name of the image with its tag. */
  readonly image: string;
  /** Manifest digest of what boots next; null when that is no deployment. */
  readonly from: Digest | null;
  readonly to: Digest;
  readonly fullBytes: number;
  /** Smallest first. */
  readonly ways: readonly CheckedWay[];
};

/** Finds out whether there is an update and what it costs. Changes nothing and has nothing made. */
export async function checkForUpdate(machine: Machine, signal?: AbortSignal): Promise<CheckReport> {
  const { config, deployments, events, platform, state, storage } = machine;
  const { next } = await deployments.roles(await deployments.list());
  const image = channelName(config);
  const from = next?.manifest ?? null;
  events.step('resolve', image);
  const source = await machine.connect(signal);
  const { reader, tagDigest } = source;
  const seen = await state.seen();
  if (seen?.image === image && seen.resolved === tagDigest && seen.manifest === from) {
    return { update: false, image, from, to: from, fullBytes: seen.fullBytes, ways: [] };
  }
  const wanted = source.wanted ?? config.tag;
  const trusted = await resolveTarget(source, wanted, platform, signal);
  const target = await readTarget(reader, trusted, platform, signal);
  const to = target.manifest.digest;
  const { fullBytes } = target;
  if (to === from) return { update: false, image, from, to, fullBytes, ways: [] };
  const support = await storage.checkSupport(signal);
  const context = await contextOf(machine, source, signal);
  const ways = support.supported
    ? await supportedWays(context, target, machine, next?.config)
    : [{ ...describe(importWay(target), context.lineRate), reason: support.reason }];
  return { update: true, image, from, to, fullBytes, ways };
}

async function supportedWays(
  context: ChooseContext,
  target: Target,
  { config, storage }: Machine,
  current: Digest | undefined,
): Promise<CheckedWay[]> {
  const sources = sortSources(await storage.listImages(), config, current);
  const offers = await findOffers(context, target, sources);
  const full = describe(offers.full, context.lineRate);
  const ways: CheckedWay[] = [{ ...full, reason: offers.reason ?? null }];
  for (const offer of offers.deltas) ways.push(await checkOffer(context, target, offer));
  for (const offer of offers.chains ?? []) ways.push(await checkChain(context, target, offer));
  const cost = (way: CheckedWay) => way.bytes ?? Number.POSITIVE_INFINITY;
  return ways.sort((a, b) => (cost(a) === cost(b) ? 0 : cost(a) - cost(b)));
}

async function checkChain(
  context: ChooseContext,
  target: Target,
  offer: OfferedChain,
): Promise<CheckedWay> {
  const way = { method: 'delta', source: offer.held.config, steps: offer.steps.length } as const;
  const chain = await readyChain(context, target, offer);
  if (typeof chain === 'string') {
    const seconds = { make: null, download: null, build: null };
    return { ...way, state: 'refused', bytes: null, seconds, reason: chain };
  }
  const seconds = secondsOfChain(chain, context.lineRate);
  return { ...way, state: 'ready', bytes: chain.bytes, seconds, reason: null };
}

async function checkOffer(
  context: ChooseContext,
  target: Target,
  offer: OfferedDelta,
): Promise<CheckedWay> {
  const { state, reason = null, held } = offer;
  const { make = null, build = null } = offer.seconds ?? {};
  const seconds = { make, download: null, build };
  const open = { method: 'delta', bytes: null, seconds, source: held.config, steps: 1 } as const;
  const artifact = offer.artifact?.digest;
  if (artifact === undefined) return { ...open, state, reason };
  const way = await readyWay(context, target, held, artifact);
  if (typeof way === 'string') return { ...open, state: 'refused', reason: way };
  return describe(way, context.lineRate);
}

function describe(way: Way, rate: number | undefined): CheckedWay {
  const { method, bytes, source } = way;
  const seconds = secondsOf(way, rate);
  const steps = method === 'delta' ? 1 : 0;
  const from = source?.config ?? null;
  return { method, state: 'ready', bytes, seconds, source: from, steps, reason: null };
}
