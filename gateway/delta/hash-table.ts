import { randomInt } from 'node:crypto';

/** Not known beforehand, so that no image is made of names that meet in one place. */
const SEED = randomInt(2 ** 31);
const EMPTY = -1;

function mixed(hash: number): number {
  const first = Math.imul(hash ^ (hash >>> 16) ^ SEED, 0x45d9f3b);
  return Math.imul(first ^ (first >>> 15), 0x2c1b3c6d);
}

/** A hash of 32 bits that differs from run to run. */
export function hashOf(text: string): number {
  let hash = SEED;
  for (let i = 0; i < text.length; i += 1) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    hash ^= hash >>> 15;
  }
  return hash;
}

/** The same with 53 bits: of a million texts, two have the same once in ten thousand runs. */
export function wideHashOf(text: string): number {
  let high = SEED;
  for (let i = 0; i < text.length; i += 1) {
    high = (Math.imul(high, 0x2c1b3c6d) + text.charCodeAt(i)) | 0;
    high ^= high >>> 13;
  }
  return (high >>> 11) * 2 ** 32 + (hashOf(text) >>> 0);
}

function bitsFor(count: number): number {
  return Math.max(4, Math.ceil(Math.log2(count + 1)));
}

/** Numbers by wide hashes of texts, in some 20 bytes for each: the texts themselves are not kept. */
export class HashTable {
  #bits = 8;
  #keys = new Float64Array(2 ** 8);
  #values = new Int32Array(2 ** 8).fill(EMPTY);
  #count = 0;

  get(key: number): number | undefined {
    const value = this.#values[this.#slot(key)];
    return value === undefined || value === EMPTY ? undefined : value;
  }

  /** `value` is from 0 to 2 ** 31 - 1. */
  set(key: number, value: number): void {
    const slot = this.#slot(key);
    if (this.#values[slot] === EMPTY) this.#count += 1;
    this.#keys[slot] = key;
    this.#values[slot] = value;
    if (this.#count * 4 > this.#keys.length * 3) this.#grow();
  }

  #slot(key: number): number {
    const mask = this.#keys.length - 1;
    let slot = mixed(key) & mask;
    while (this.#values[slot] !== EMPTY && this.#keys[slot] !== key) slot = (slot + 1) & mask;
    return slot;
  }

  #grow(): void {
    const [keys, values] = [this.#keys, this.#values];
    this.#bits += 1;
    this.#keys = new Float64Array(2 ** this.#bits);
    this.#values = new Int32Array(2 ** this.#bits).fill(EMPTY);
    for (let i = 0; i < keys.length; i += 1) {
      const value = values[i] ?? EMPTY;
      if (value === EMPTY) continue;
      const slot = this.#slot(keys[i] ?? 0);
      this.#keys[slot] = keys[i] ?? 0;
      this.#values[slot] = value;
    }
  }
}

/** A fixed number of items in groups by hashes of 32 bits, in 12 to 16 bytes for each item. */
export class HashGroups {
  readonly #mask: number;
  readonly #heads: Int32Array;
  readonly #next: Int32Array;
  readonly #hashes: Int32Array;

  constructor(count: number) {
    const size = 2 ** bitsFor(count);
    this.#mask = size - 1;
    this.#heads = new Int32Array(size).fill(EMPTY);
    this.#next = new Int32Array(count);
    this.#hashes = new Int32Array(count);
  }

  /** Adds an item, by its number, to the group of a hash; not beyond `limit` of them. */
  add(hash: number, item: number, limit: number): void {
    const bucket = mixed(hash) & this.#mask;
    let found = 0;
    for (let at = this.#heads[bucket] ?? EMPTY; at !== EMPTY; at = this.#next[at] ?? EMPTY) {
      if (this.#hashes[at] !== (hash | 0)) continue;
      found += 1;
      if (found >= limit) return;
    }
    this.#hashes[item] = hash;
    this.#next[item] = this.#heads[bucket] ?? EMPTY;
    this.#heads[bucket] = item;
  }

  /** The items of a group, in the order in which they were added. */
  of(hash: number): number[] {
    const items: number[] = [];
    const bucket = mixed(hash) & this.#mask;
    for (let at = this.#heads[bucket] ?? EMPTY; at !== EMPTY; at = this.#next[at] ?? EMPTY) {
      if (this.#hashes[at] === (hash | 0)) items.push(at);
    }
    return items.reverse();
  }
}
