/**
 * Estimates of how long something takes, from what was measured on one common server core. They help
 * people and machines to choose; they promise nothing.
 */

/** Bytes a second of packed layers that are unpacked and written. */
const PACKED_RATE = 15e6;
/** Bytes a second of tar streams that are rebuilt from a delta and written. */
const REBUILT_RATE = 27e6;
/** How much larger the tar stream of a layer of an operating system is than the layer, packed. */
const UNPACKED_SHARE = 2.7;

/** What building an image takes besides fetching. */
export type BuildWork = {
  /** Bytes of layers that travel whole, as they travel. */
  readonly packedBytes: number;
  /** Bytes of tar streams that are rebuilt from deltas. */
  readonly rebuiltBytes: number;
  /** Seconds for which encoders of compressed files run. */
  readonly encodeSeconds: number;
};

/** Seconds that building takes. */
export function buildSeconds({ packedBytes, rebuiltBytes, encodeSeconds }: BuildWork): number {
  return packedBytes / PACKED_RATE + rebuiltBytes / REBUILT_RATE + encodeSeconds;
}

/** About how long the tar stream of a layer is, in bytes, by the size of the layer as it travels. */
export function unpackedBytes(packedBytes: number): number {
  return packedBytes * UNPACKED_SHARE;
}

/** Seconds with the precision that an estimate has: two digits. */
export function roundEstimate(seconds: number): number {
  return seconds === 0 ? 0 : Number(seconds.toPrecision(2));
}
