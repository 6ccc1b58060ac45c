/**
 * Settings of zstd's levels with the lazy strategies, for content of more than 256 KiB.
 */
export type LazyLevel = {
  readonly windowLog: number;
  readonly hashLog: number;
  readonly searchLog: number;
  /** How many positions further a better match is looked for. */
  readonly depth: 1 | 2;
};

/** Bits of a hash that are compared within a row. */
const TAG_BITS = 8;
/** Bytes that a hash is made of: five, which take part in a product modulo 2^40. */
const PRIME = 889523592379;
const PRIME_LOW = PRIME % 2 ** 20;
const PRIME_HIGH = Math.floor(PRIME / 2 ** 20);
const MASK_20 = 2 ** 20 - 1;

/** After a long match only these many positions at its start and end are indexed. */
const SKIP_FROM = 384;
const SKIP_KEEP_START = 96;
const SKIP_KEEP_END = 32;
/** A dictionary's last bytes are not indexed: eight are read at once. */
const HASH_READ_SIZE = 8;

/** Finds matches by rows: hash buckets with their newest entries, each with a tag. */
export class RowMatcher {
  readonly #input: Uint8Array;
  readonly #rowLog: number;
  readonly #rowMask: number;
  readonly #attempts: number;
  readonly #maxDistance: number;
  readonly #hashBits: number;
  /** Positions plus one, 0 where there is none. */
  readonly #positions: Uint32Array;
  readonly #tags: Uint8Array;
  readonly #heads: Uint8Array;
  /** First position that was not indexed, and first that may be referred to. */
  next = 0;
  low = 0;
  /** Distance of the last match found. */
  distance = 0;

  constructor(input: Uint8Array, level: LazyLevel) {
    this.#input = input;
    this.#rowLog = Math.min(6, Math.max(4, level.searchLog));
    this.#rowMask = (1 << this.#rowLog) - 1;
    this.#attempts = 1 << Math.min(level.searchLog, this.#rowLog);
    this.#maxDistance = 2 ** level.windowLog;
    this.#hashBits = level.hashLog - this.#rowLog + TAG_BITS;
    this.#positions = new Uint32Array(2 ** level.hashLog);
    this.#tags = new Uint8Array(2 ** level.hashLog);
    this.#heads = new Uint8Array(2 ** (level.hashLog - this.#rowLog));
  }

  /** Forgets everything, and indexes the first `size` bytes of the input, to be referred to. */
  start(size: number): void {
    this.#positions.fill(0);
    this.#tags.fill(0);
    this.#heads.fill(0);
    this.next = 0;
    this.low = 0;
    if (size > HASH_READ_SIZE) this.#insertUntil(size - HASH_READ_SIZE);
    this.next = size;
  }

  /** The top bits of the hash of five bytes. */
  #hash(at: number): number {
    const input = this.#input;
    const b2 = input[at + 2] as number;
    const low = (input[at] as number) | ((input[at + 1] as number) << 8) | ((b2 & 15) << 16);
    const high = (b2 >> 4) | ((input[at + 3] as number) << 4) | ((input[at + 4] as number) << 12);
    const carry = Math.floor((low * PRIME_LOW) / 2 ** 20);
    const top = (carry + Math.imul(low, PRIME_HIGH) + Math.imul(high, PRIME_LOW)) & MASK_20;
    const bits = this.#hashBits;
    if (bits <= 20) return top >> (20 - bits);
    const bottom = Math.imul(low, PRIME_LOW) & MASK_20;
    return (top << (bits - 20)) | (bottom >> (40 - bits));
  }

  #insert(at: number, hash: number): void {
    const row = hash >>> TAG_BITS;
    const head = ((this.#heads[row] as number) - 1) & this.#rowMask;
    const entry = (row << this.#rowLog) + head;
    this.#heads[row] = head;
    this.#tags[entry] = hash;
    this.#positions[entry] = at + 1;
  }

  #insertUntil(end: number): void {
    for (let at = this.next; at < end; at++) this.#insert(at, this.#hash(at));
    this.next = end;
  }

  /** Indexes everything before `at`, but of long stretches the start and the end only. */
  #catchUp(at: number): void {
    if (at - this.next > SKIP_FROM) {
      this.#insertUntil(this.next + SKIP_KEEP_START);
      this.next = at - SKIP_KEEP_END;
    }
    this.#insertUntil(at);
  }

  /** The length of the longest match at `at`, 3 where there is none, up to `end`; indexes `at`. */
  find(at: number, end: number): number {
    this.#catchUp(at);
    const input = this.#input;
    const hash = this.#hash(at);
    const row = hash >>> TAG_BITS;
    const tag = hash & 255;
    const base = row << this.#rowLog;
    const mask = this.#rowMask;
    const head = this.#heads[row] as number;
    const lowest = Math.max(this.low, at - this.#maxDistance);
    const tags = this.#tags;
    const positions = this.#positions;
    let best = 3;
    let left = this.#attempts;
    for (let index = 0; index <= mask && left > 0; index++) {
      const entry = base + ((head + index) & mask);
      if (tags[entry] !== tag) continue;
      const from = (positions[entry] as number) - 1;
      if (from < lowest) break;
      left--;
      if (
        input[from + best] !== input[at + best] ||
        input[from + best - 1] !== input[at + best - 1] ||
        input[from + best - 2] !== input[at + best - 2] ||
        input[from + best - 3] !== input[at + best - 3]
      ) {
        continue;
      }
      const length = this.count(from, at, end);
      if (length <= best) continue;
      best = length;
      this.distance = at - from;
      if (at + length === end) break;
    }
    this.#insert(at, hash);
    this.next = at + 1;
    return best;
  }

  /** How many bytes at two positions agree, the second of them before `end`. */
  count(from: number, at: number, end: number): number {
    const input = this.#input;
    let length = 0;
    while (at + length < end && input[from + length] === input[at + length]) length++;
    return length;
  }

  /** Whether four bytes at two positions agree. */
  agrees(from: number, at: number): boolean {
    const input = this.#input;
    return (
      input[from] === input[at] &&
      input[from + 1] === input[at + 1] &&
      input[from + 2] === input[at + 2] &&
      input[from + 3] === input[at + 3]
    );
  }
}
