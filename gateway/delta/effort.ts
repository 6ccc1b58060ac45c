/** How much time is spent on a delta for fewer bytes. */
export type Effort = {
  /** zstd level of its streams. */
  readonly level: number;
  /** Most sources that are compared with one file in full. */
  readonly candidates: number;
  /** Most places of the old file that are looked at for one run. */
  readonly chain: number;
};

export const DEFAULT_EFFORT = 6;
export const MAX_EFFORT = 9;

/**
 * From 1 on. What costs time is the packing up to 6, and the search beyond; a major release, most of
 * which is new, is packed in three quarters of the time by 6, and 3 % smaller from 7 on.
 */
const EFFORTS: readonly Effort[] = [
  { level: 3, candidates: 1, chain: 2 },
  { level: 6, candidates: 1, chain: 4 },
  { level: 9, candidates: 2, chain: 4 },
  { level: 12, candidates: 2, chain: 8 },
  { level: 16, candidates: 2, chain: 8 },
  { level: 18, candidates: 2, chain: 16 },
  { level: 19, candidates: 4, chain: 32 },
  { level: 22, candidates: 6, chain: 64 },
  { level: 22, candidates: 12, chain: 256 },
];

/** Throws RangeError for anything but 1 to 9. */
export function effortOf(effort: number): Effort {
  const found = EFFORTS[effort - 1];
  if (found === undefined) throw new RangeError(`there is no effort ${effort}`);
  return found;
}
