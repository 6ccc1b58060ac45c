import { covers, parseFormatName } from '../../shared/delta/formats.ts';
import type { OfferedChain } from './chain.ts';
import type { ChooseContext, OfferedDelta, Offers } from './choose-way.ts';
import { secondsOf } from './estimate.ts';

/** What can be tried: a delta, or several one after the other. */
export type Offer = OfferedDelta | OfferedChain;

/**
 * The offers in the order in which they are tried. The fewest bytes come first among what is ready;
 * a chain only where it takes no longer than the best that is ready, for it is built step by step.
 * What is not made yet is waited for first where it is in a more wanted format, or saves a chain, and
 * is made sooner than the other is fetched.
 */
export function orderOffers(context: ChooseContext, { full, deltas, chains }: Offers): Offer[] {
  const { config, lineRate, formats } = context;
  const ready = deltas.find((offer) => offer.state === 'ready');
  const best = ready ?? { bytes: full.bytes, seconds: secondsOf(full, lineRate) };
  const chain = chains?.find((one) => isBetter(one, best, lineRate));
  const known = chain ?? ready;
  const rest: Offer[] = chain === undefined ? [...deltas] : [chain, ...deltas];
  if (known === undefined || (known.bytes ?? 0) < config.smallestDelta) return rest;
  const rank = (offer: Offer) => {
    if (!('format' in offer) || offer.format === undefined) return formats.length;
    const needs = parseFormatName(offer.format);
    const found = formats.findIndex((has) => needs !== undefined && covers(has, needs));
    return found < 0 ? formats.length : found;
  };
  const isWaitedFor = (offer: OfferedDelta) => {
    const make = offer.seconds?.make;
    if (offer.state === 'ready' || make === undefined || rank(offer) >= rank(known)) return false;
    return lineRate === undefined || make < (known.bytes ?? 0) / lineRate;
  };
  const first = deltas.filter(isWaitedFor);
  return [...first, ...rest.filter((offer) => !first.includes(offer as OfferedDelta))];
}

type Cost = {
  readonly bytes?: number | undefined;
  readonly seconds?: { readonly build: number | null } | undefined;
};

/** Whether a chain takes fewer bytes than another way, and no more time as far as that is known. */
function isBetter(chain: OfferedChain, other: Cost, rate: number | undefined): boolean {
  const { bytes, seconds } = other;
  if (bytes === undefined || chain.bytes >= bytes) return false;
  if (rate === undefined || !seconds || seconds.build === null) return true;
  return chain.bytes / rate + chain.seconds.build <= bytes / rate + seconds.build;
}
