import { Lz4Matcher, type Match, MIN_MATCH } from './matcher.ts';

/**
 * LZ4's high compression, levels 3 to 9 (hash chains with a lazy choice among three overlapping
 * matches), with exactly the choices of the reference implementation 1.9: every tie, limit and
 * shortcut shows in the output. Blocks are independent of each other.
 */

/** No match starts within this many bytes of the end. */
const MATCH_MARGIN = 12;
const MIN_INPUT = MATCH_MARGIN + 1;
const RUN_MASK = 15;
/** Longest match whose length fits in the token. */
const OPTIMAL_LENGTH = RUN_MASK - 1 + MIN_MATCH;

/** Bytes that `size` bytes take at most (the reference implementation's bound). */
export function packedBound(size: number): number {
  return size + Math.floor(size / 255) + 16;
}

/** Packs blocks, one after the other, in the same tables. */
export class Lz4BlockPacker {
  readonly #matcher: Lz4Matcher;
  #input: Uint8Array = new Uint8Array(0);
  #output = new Uint8Array(0);
  #size = 0;
  #anchor = 0;

  constructor(level: number) {
    this.#matcher = new Lz4Matcher(2 ** (level - 1));
  }

  /** Packs one block; the result is valid until the next call. */
  pack(input: Uint8Array): Uint8Array {
    this.#matcher.start(input);
    this.#input = input;
    this.#anchor = 0;
    this.#size = 0;
    const bound = packedBound(input.length);
    if (this.#output.length < bound) this.#output = new Uint8Array(bound);
    if (input.length >= MIN_INPUT) this.#packMatches();
    this.#writeLastLiterals();
    return this.#output.subarray(0, this.#size);
  }

  #packMatches(): void {
    const lastStart = this.#input.length - MATCH_MARGIN;
    let at = 0;
    while (at <= lastStart) {
      const first = this.#matcher.widest(at, at, MIN_MATCH - 1);
      if (first === undefined) at++;
      else at = this.#chooseAmong(first, lastStart);
    }
  }

  /** Writes `first`, or better matches that overlap it; returns where the search goes on. */
  #chooseAmong(first: Match, lastStart: number): number {
    let one = first;
    // The first match tried, for the case that better ones skipped too much.
    let kept = { ...first };
    for (;;) {
      const two = this.#after(one, 2, one.start, lastStart);
      if (two === undefined) return this.#write(one);
      if (kept.start < one.start && two.start < one.start + kept.length) one = { ...kept };
      if (two.start - one.start < MIN_MATCH - 1) {
        one = two;
        continue;
      }
      const next = this.#chooseOfThree(one, two, lastStart);
      if (typeof next === 'number') return next;
      ({ one, kept } = next);
    }
  }

  /**
   * Writes of three overlapping matches what is best, again and again while more overlap. Returns
   * where the search goes on, or the match that is to be the first, and the one it replaced.
   */
  #chooseOfThree(first: Match, second: Match, lastStart: number) {
    let one = first;
    let two = second;
    for (;;) {
      shortenOverlap(one, two);
      const three = this.#after(two, 3, two.start, lastStart);
      if (three === undefined) {
        if (two.start < one.start + one.length) one.length = two.start - one.start;
        this.#write(one);
        return this.#write(two);
      }
      const end = one.start + one.length;
      if (three.start < end) {
        two = three;
      } else if (three.start < end + MIN_MATCH - 1) {
        // No room for the second, but it may come back.
        const kept = afterFirst(one, two) ?? { ...three };
        this.#write(one);
        return { one: three, kept };
      } else {
        trimFirst(one, two);
        this.#write(one);
        one = two;
        two = three;
      }
    }
  }

  /** A longer match around the end of `match`, which may start as early as `from`. */
  #after(match: Match, back: number, from: number, lastStart: number): Match | undefined {
    const end = match.start + match.length;
    return end <= lastStart ? this.#matcher.widest(end - back, from, match.length) : undefined;
  }

  /** Writes the literals up to a match, and the match; returns where it ends. */
  #write(match: Match): number {
    const output = this.#output;
    const literals = match.start - this.#anchor;
    const length = match.length - MIN_MATCH;
    const distance = match.start - match.from;
    this.#writeLiterals(literals, Math.min(length, RUN_MASK));
    output[this.#size++] = distance;
    output[this.#size++] = distance >> 8;
    if (length >= RUN_MASK) this.#writeLength(length - RUN_MASK);
    this.#anchor = match.start + match.length;
    return this.#anchor;
  }

  #writeLastLiterals(): void {
    this.#writeLiterals(this.#input.length - this.#anchor, 0);
  }

  #writeLiterals(count: number, token: number): void {
    this.#output[this.#size++] = (Math.min(count, RUN_MASK) << 4) | token;
    if (count >= RUN_MASK) this.#writeLength(count - RUN_MASK);
    this.#output.set(this.#input.subarray(this.#anchor, this.#anchor + count), this.#size);
    this.#size += count;
  }

  #writeLength(length: number): void {
    let left = length;
    for (; left >= 255; left -= 255) this.#output[this.#size++] = 255;
    this.#output[this.#size++] = left;
  }
}

function advance(match: Match, by: number): void {
  match.start += by;
  match.from += by;
  match.length -= by;
}

/** How long `one` may be so that what is left of `two` is still a match. */
function lengthBefore(one: Match, two: Match): number {
  const length = Math.min(one.length, OPTIMAL_LENGTH);
  const end = two.start + two.length - MIN_MATCH;
  return one.start + length > end ? end - one.start : length;
}

/** Lets `two` begin after `one`, as far as the length of `one` costs no byte more. */
function shortenOverlap(one: Match, two: Match): void {
  if (two.start - one.start >= OPTIMAL_LENGTH) return;
  const correction = lengthBefore(one, two) - (two.start - one.start);
  if (correction > 0) advance(two, correction);
}

/** Ends `one` where `two` begins. */
function trimFirst(one: Match, two: Match): void {
  if (two.start >= one.start + one.length) return;
  if (two.start - one.start >= OPTIMAL_LENGTH) {
    one.length = two.start - one.start;
    return;
  }
  one.length = lengthBefore(one, two);
  const correction = one.length - (two.start - one.start);
  if (correction > 0) advance(two, correction);
}

/** What is left of `two` after `one`; undefined when that is no match any more. */
function afterFirst(one: Match, two: Match): Match | undefined {
  const left = { ...two };
  const end = one.start + one.length;
  if (left.start < end) {
    advance(left, end - left.start);
    if (left.length < MIN_MATCH) return undefined;
  }
  return left;
}
