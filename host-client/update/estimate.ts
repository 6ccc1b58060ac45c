import * as v from 'valibot';
import { readTarBytes } from '../../shared/delta/annotations.ts';
import { buildSeconds, roundEstimate, unpackedBytes } from '../../shared/estimate.ts';
import type { Way } from './ways.ts';

/** How long a way takes, in seconds; null where nobody can say. Estimates. */
export type WaySeconds = {
  /** Until the gateway has made the delta; 0 when it is there. */
  readonly make: number | null;
  /** On the line, at the rate that was measured last or that the configuration allows. */
  readonly download: number | null;
  readonly build: number | null;
};

/** The rate of the line as downloads had it; bytes a second. */
export const lineRateSchema = v.object({
  bytesPerSecond: v.pipe(v.number(), v.finite(), v.minValue(1)),
});

/** Downloads of fewer bytes or milliseconds say little about the line. */
const MIN_BYTES = 256 * 1024;
const MIN_SECONDS = 0.2;
/** How much the last download counts against those before. */
const LAST_SHARE = 0.5;

/** The rate after one more download. Undefined as long as nothing is known. */
export function nextLineRate(
  known: number | undefined,
  bytes: number,
  seconds: number,
): number | undefined {
  if (bytes < MIN_BYTES || seconds < MIN_SECONDS) return known;
  const rate = Math.max(1, bytes / seconds);
  return known === undefined ? rate : known + (rate - known) * LAST_SHARE;
}

/** The rate to count with: what was measured, within what the configuration allows. */
export function expectedRate(
  measured: number | undefined,
  allowed: number | undefined,
): number | undefined {
  if (measured === undefined || allowed === undefined) return measured ?? allowed;
  return Math.min(measured, allowed);
}

/** Seconds on the line for so many bytes; null when nothing is known of it. */
export function downloadSeconds(bytes: number, rate: number | undefined): number | null {
  return rate === undefined ? null : roundEstimate(bytes / rate);
}

/** How long a way takes that can be gone now. */
export function secondsOf(way: Way, rate: number | undefined): WaySeconds {
  let packedBytes = 0;
  let rebuiltBytes = 0;
  for (const layer of way.layers) {
    if (!('fetch' in layer)) continue;
    if (layer.kind === 'full') packedBytes += layer.fetch.size;
    else rebuiltBytes += readTarBytes(layer.fetch) ?? unpackedBytes(layer.blob.size);
  }
  const encodeSeconds = way.bounds?.encodeSeconds ?? 0;
  const build = buildSeconds({ packedBytes, rebuiltBytes, encodeSeconds });
  return {
    make: 0,
    download: downloadSeconds(way.bytes, rate),
    build: roundEstimate(build),
  };
}

/** How long a chain of deltas takes, all of which are ready. */
export function secondsOfChain(
  { bytes, build }: { readonly bytes: number; readonly build: number },
  rate: number | undefined,
): WaySeconds {
  return { make: 0, download: downloadSeconds(bytes, rate), build: roundEstimate(build) };
}

/** All of it; null when a part is not known. */
export function totalSeconds({ make, download, build }: WaySeconds): number | null {
  return make === null || download === null || build === null ? null : make + download + build;
}
