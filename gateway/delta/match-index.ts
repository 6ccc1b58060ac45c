import { WorkMemory } from './work-memory.ts';

/** Shortest run that is looked up, in bytes: shorter ones cost more to name than they save. */
export const MIN_MATCH = 16;

const MULTIPLIER = 0x2c1b3c6d;
const SPREAD = 0x9e3779b1 | 0;
/** A bucket's number of an entry takes so many bits; the others tell of the hashes that are in it. */
const ENTRY_BITS = 26;
const ENTRY_MASK = 2 ** ENTRY_BITS - 1;
const MAX_ENTRIES = ENTRY_MASK - 1;
/** Entries that are put into the table at once: the processor then waits for many buckets together. */
const BATCH = 2048;
const batch = { hashes: new Int32Array(BATCH), entries: new Int32Array(BATCH) };
/** Places of one hash that are looked at, unless told otherwise. */
const DEFAULT_CHAIN = 16;

/** `b * MULTIPLIER ** 16`, to take the oldest byte out of a rolling hash. */
const LEAVING = leavingTable();

function leavingTable(): Int32Array {
  let power = 1;
  for (let i = 0; i < MIN_MATCH; i += 1) power = Math.imul(power, MULTIPLIER);
  return Int32Array.from({ length: 256 }, (_, byte) => Math.imul(byte, power));
}

/** Hash of the MIN_MATCH bytes from `at`. */
export function hashAt(bytes: Uint8Array, at: number): number {
  let hash = 0;
  for (let i = 0; i < MIN_MATCH; i += 1) {
    hash = (Math.imul(hash, MULTIPLIER) + (bytes[at + i] as number)) | 0;
  }
  return hash;
}

/** The hash one byte further on, from the hash of the MIN_MATCH bytes at `at`. */
export function rollHash(hash: number, bytes: Uint8Array, at: number): number {
  const incoming = bytes[at + MIN_MATCH] as number;
  const leaving = LEAVING[bytes[at] as number] as number;
  return (Math.imul(hash, MULTIPLIER) + incoming - leaving) | 0;
}

/** How many bytes from `a` and `b` on are equal. */
export function equalRun(old: Uint8Array, a: number, fresh: Uint8Array, b: number): number {
  const end = Math.min(old.length - a, fresh.length - b);
  let i = 0;
  while (i < end && old[a + i] === fresh[b + i]) i += 1;
  return i;
}

/** How many bytes of two runs of one length differ. */
export function differing(a: Uint8Array, b: Uint8Array): number {
  let count = 0;
  for (let i = 0; i < b.length; i += 1) if (a[i] !== b[i]) count += 1;
  return count;
}

/**
 * Memory that indexing takes besides the bytes themselves, in bytes; its table is halved `halvings`
 * times, which makes looking up take longer.
 */
export function indexBytes(length: number, halvings = 0): number {
  const entries = Math.ceil(length / stepFor(length));
  return 4 * (entries + 2 ** tableBits(entries, halvings));
}

/** Every how many bytes the old side is indexed: large files coarsely. */
function stepFor(length: number): number {
  if (length < 4 * 1024 * 1024) return 2;
  return length < 24 * 1024 * 1024 ? 4 : Math.max(8, Math.ceil(length / MAX_ENTRIES));
}

function tableBits(entries: number, halvings: number): number {
  return Math.max(8, Math.min(26, Math.ceil(Math.log2(entries + 1))) - halvings);
}

function memoryFor(old: Uint8Array, halvings: number): WorkMemory {
  const memory = new WorkMemory();
  memory.begin(indexBytes(old.length, halvings));
  return memory;
}

/** The bit that says of a bucket that a hash may be in it. */
function markOf(hash: number): number {
  return 1 << (ENTRY_BITS + (((hash & 0xff) * (32 - ENTRY_BITS)) >> 8));
}

/** How a file is indexed. */
export type IndexOptions = {
  /** Most places that are looked at for one run. */
  readonly chain?: number | undefined;
  /** Has room for what {@link indexBytes} says; its own when absent. */
  readonly memory?: WorkMemory;
  /** How often the table is halved. */
  readonly halvings?: number;
};

/** Finds where runs of MIN_MATCH bytes and more stand in a buffer. */
export class MatchIndex {
  readonly #old: Uint8Array;
  readonly #step: number;
  readonly #shift: number;
  /**
   * By bucket: number of the newest entry, from 1; entry i stands at (i - 1) * step. And a bit for each
   * hash that is in it (others may share it): most misses end here.
   */
  readonly #heads: Int32Array;
  /** By entry: the one before it in its bucket, or 0. */
  readonly #previous: Int32Array;
  readonly #chain: number;
  /** Where the run that {@link find} found starts. */
  position = 0;

  constructor(old: Uint8Array, options: IndexOptions = {}) {
    const { chain = DEFAULT_CHAIN, halvings = 0, memory = memoryFor(old, halvings) } = options;
    const step = stepFor(old.length);
    const entries = Math.ceil(old.length / step);
    const bits = tableBits(entries, halvings);
    this.#old = old;
    this.#chain = chain;
    this.#step = step;
    this.#shift = 32 - bits;
    this.#heads = memory.numbers(2 ** bits).fill(0);
    this.#previous = memory.numbers(entries);
    this.#fill();
  }

  #fill(): void {
    const old = this.#old;
    const step = this.#step;
    const last = old.length - MIN_MATCH;
    if (last < 0) return;
    const { hashes, entries } = batch;
    let hash = hashAt(old, 0);
    let before = hash + 1;
    let due = 0;
    let entry = 0;
    let count = 0;
    for (let at = 0; ; at += 1) {
      if (at === due) {
        due += step;
        entry += 1;
        // Long runs of one value would fill a chain with places that are all alike.
        if (hash !== before) {
          hashes[count] = hash;
          entries[count] = entry;
          count += 1;
        }
        before = hash;
        if (count === BATCH) {
          this.#insert(count);
          count = 0;
        }
      }
      if (at >= last) break;
      hash = rollHash(hash, old, at);
    }
    this.#insert(count);
  }

  /** Puts the first `count` entries of the batch into the table. */
  #insert(count: number): void {
    const { hashes, entries } = batch;
    const heads = this.#heads;
    const previous = this.#previous;
    const shift = this.#shift;
    for (let i = 0; i < count; i += 1) {
      const hash = hashes[i] as number;
      const entry = entries[i] as number;
      const bucket = Math.imul(hash, SPREAD) >>> shift;
      const head = heads[bucket] as number;
      previous[entry - 1] = head & ENTRY_MASK;
      heads[bucket] = (head & ~ENTRY_MASK) | markOf(hash) | entry;
    }
  }

  /**
   * The length of the longest of the runs looked at that equal `fresh` from `at`, 0 when it is
   * shorter than MIN_MATCH; its place is then in `position`. `hash` is that of `fresh` at `at`.
   */
  find(fresh: Uint8Array, at: number, hash: number): number {
    const head = this.#heads[Math.imul(hash, SPREAD) >>> this.#shift] as number;
    if ((head & markOf(hash)) === 0) return 0;
    const old = this.#old;
    const chain = this.#chain;
    let best = MIN_MATCH - 1;
    let entry = head & ENTRY_MASK;
    for (let depth = 0; entry !== 0 && depth < chain; depth += 1) {
      const from = (entry - 1) * this.#step;
      if (old[from + best] === fresh[at + best] && old[from] === fresh[at]) {
        const length = equalRun(old, from, fresh, at);
        if (length > best) {
          best = length;
          this.position = from;
        }
      }
      entry = this.#previous[entry - 1] as number;
    }
    return best < MIN_MATCH ? 0 : best;
  }
}
