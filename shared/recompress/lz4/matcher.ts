/** Shortest match, in bytes. */
export const MIN_MATCH = 4;
/** The end of a block that no match reaches into. */
const LAST_LITERALS = 5;
const MAX_DISTANCE = 65535;
const HASH_BITS = 15;
/** Positions count from here, so that an empty hash entry is out of reach. */
const BASE = 65536;
/** Searches deeper than this skip candidates inside of runs. */
const RUN_DEPTH = 128;

/** A match: where it starts, what it copies, and how long it is. */
export type Match = { start: number; from: number; length: number };

/** Finds matches of one block at a time, in the order and within the limits of LZ4's own search. */
export class Lz4Matcher {
  readonly #depth: number;
  readonly #heads = new Uint32Array(1 << HASH_BITS);
  readonly #chain = new Uint16Array(1 << 16);
  #input: Uint8Array = new Uint8Array(0);
  #next = 0;
  /** The best match of the search under way, and the length to exceed. */
  #best: Match | undefined;
  #length = 0;

  /** `depth` is how many candidates are looked at. */
  constructor(depth: number) {
    this.#depth = depth;
  }

  start(input: Uint8Array): void {
    this.#heads.fill(0);
    this.#chain.fill(0xffff);
    this.#input = input;
    this.#next = 0;
  }

  /**
   * The longest match that covers `at`, starts at `low` or later, and is longer than `longest`. In
   * runs of one byte candidates are skipped.
   */
  widest(at: number, low: number, longest: number): Match | undefined {
    this.#insertUntil(at);
    const chain = this.#chain;
    const lowest = Math.max(BASE, at + BASE - MAX_DISTANCE);
    const run = this.#depth > RUN_DEPTH ? this.#runAt(at) : 0;
    this.#best = undefined;
    this.#length = longest;
    let index = this.#heads[this.#hash(at)] as number;
    for (let left = this.#depth; index >= lowest && left > 0; left--) {
      this.#consider(at, low, index - BASE);
      const step = chain[index & 0xffff] as number;
      const inRun = step === 1 && run > 0 && index > lowest && this.#sameWord(at, index - 1 - BASE);
      index = inRun ? this.#skipRun(index - 1, at, at - low, lowest, run) : index - step;
    }
    return this.#best;
  }

  #consider(at: number, low: number, from: number): void {
    const input = this.#input;
    const end = low + this.#length;
    const probe = from - at + end;
    if (input[end - 1] !== input[probe - 1] || input[end] !== input[probe]) return;
    if (!this.#sameWord(at, from)) return;
    const back = this.#backward(at, from, low);
    const length = this.#forward(at, from) + back;
    if (length <= this.#length) return;
    this.#length = length;
    this.#best = { start: at - back, from: from - back, length };
  }

  /**
   * The next candidate where `candidate` stands in a run of the same byte as `at`, whose run has
   * `run` bytes: the one from which both runs end together, else the run's start. 0 ends the search.
   */
  #skipRun(candidate: number, at: number, look: number, lowest: number, run: number): number {
    const { back, forward } = this.#runAround(candidate - BASE, lowest - BASE);
    if (back + forward >= run && forward <= run) return candidate + forward - run;
    const index = candidate - back;
    if (look > 0) return index;
    const length = Math.min(back + forward, run);
    if (this.#length < length) {
      this.#length = length;
      this.#best = { start: at, from: index - BASE, length };
    }
    const step = this.#chain[index & 0xffff] as number;
    return step > index ? 0 : index - step;
  }

  #hash(at: number): number {
    const input = this.#input;
    const word =
      (input[at] as number) |
      ((input[at + 1] as number) << 8) |
      ((input[at + 2] as number) << 16) |
      ((input[at + 3] as number) << 24);
    return Math.imul(word, 2654435761) >>> (32 - HASH_BITS);
  }

  /** Indexes all positions before `at`. */
  #insertUntil(at: number): void {
    const heads = this.#heads;
    const chain = this.#chain;
    for (let position = this.#next; position < at; position++) {
      const hash = this.#hash(position);
      const index = position + BASE;
      chain[index & 0xffff] = Math.min(index - (heads[hash] as number), MAX_DISTANCE);
      heads[hash] = index;
    }
    if (at > this.#next) this.#next = at;
  }

  #sameWord(a: number, b: number): boolean {
    const input = this.#input;
    return (
      input[a] === input[b] &&
      input[a + 1] === input[b + 1] &&
      input[a + 2] === input[b + 2] &&
      input[a + 3] === input[b + 3]
    );
  }

  #forward(a: number, b: number): number {
    const input = this.#input;
    const limit = input.length - LAST_LITERALS;
    let count = MIN_MATCH;
    while (a + count < limit && input[a + count] === input[b + count]) count++;
    return count;
  }

  #backward(a: number, b: number, low: number): number {
    const input = this.#input;
    const limit = Math.min(a - low, b);
    let count = 0;
    while (count < limit && input[a - count - 1] === input[b - count - 1]) count++;
    return count;
  }

  /** How long the run of one byte at `at` is; 0 where it is shorter than a match. */
  #runAt(at: number): number {
    const input = this.#input;
    const byte = input[at] as number;
    const repeats = input[at + 1] === byte && input[at + 2] === byte && input[at + 3] === byte;
    return repeats ? this.#runFrom(at) : 0;
  }

  #runFrom(at: number): number {
    const input = this.#input;
    const byte = input[at];
    const limit = input.length - LAST_LITERALS;
    let end = at + MIN_MATCH;
    while (end < limit && input[end] === byte) end++;
    return end - at;
  }

  #runAround(at: number, lowest: number): { readonly back: number; readonly forward: number } {
    const input = this.#input;
    const byte = input[at];
    let start = at;
    while (start > lowest && input[start - 1] === byte) start--;
    return { forward: this.#runFrom(at), back: at - start };
  }
}
