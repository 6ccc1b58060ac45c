import { MAX_BLOCK } from '../block.ts';
import { highBit } from '../entropy/bit-stream.ts';
import { newSequences, type Sequences } from '../entropy/sequences.ts';
import type { LazyLevel, RowMatcher } from './row-matcher.ts';

/** No search starts within this many bytes of a block's end. */
const MARGIN = 16;
/** The offset code of the last offset. */
const REPEAT = 1;
const MIN_MATCH = 4;
/** At a block's start, what an earlier match left unindexed is not made up for beyond this. */
const MAX_BACKLOG = 384;
const KEPT_BACKLOG = 192;

/** The last two offsets, 0 where there is none. */
export type Offsets = readonly [number, number];

/** A match under consideration: where it starts, its length and its offset code. */
type Found = { start: number; length: number; code: number };

/** Cuts blocks into literals and matches, as zstd's lazy strategies do. */
export class LazyParser {
  readonly sequences: Sequences = newSequences();
  readonly #literals = new Uint8Array(MAX_BLOCK);
  #literalSize = 0;
  readonly #input: Uint8Array;
  readonly #matcher: RowMatcher;
  readonly #depth: number;
  readonly #maxDistance: number;
  #last = 0;
  #secondLast = 0;

  constructor(input: Uint8Array, matcher: RowMatcher, level: LazyLevel) {
    this.#input = input;
    this.#matcher = matcher;
    this.#depth = level.depth;
    this.#maxDistance = 2 ** level.windowLog;
  }

  get literals(): Uint8Array {
    return this.#literals.subarray(0, this.#literalSize);
  }

  /** Parses one block of the input; returns the offsets that the next one starts with. */
  parse(start: number, end: number, offsets: Offsets): Offsets {
    const matcher = this.#matcher;
    this.sequences.size = 0;
    this.#literalSize = 0;
    matcher.low = Math.max(matcher.low, start - this.#maxDistance);
    matcher.next = Math.max(matcher.next, matcher.low);
    const backlog = start - matcher.next - MAX_BACKLOG;
    if (backlog > 0) matcher.next = start - Math.min(KEPT_BACKLOG, backlog);
    const restored = this.#parseMatches(start, end, offsets);
    return [this.#last || restored[0], this.#secondLast || restored[1]];
  }

  #parseMatches(start: number, end: number, [last, secondLast]: Offsets): Offsets {
    const limit = end - MARGIN;
    let at = start === this.#matcher.low ? start + 1 : start;
    let anchor = start;
    // Offsets that reach too far back are put aside and come back when nothing replaced them.
    const lowest = Math.max(this.#matcher.low, at - this.#maxDistance);
    const savedLast = last > at - lowest ? last : 0;
    let savedSecond = secondLast > at - lowest ? secondLast : 0;
    this.#last = savedLast > 0 ? 0 : last;
    this.#secondLast = savedSecond > 0 ? 0 : secondLast;
    while (at < limit) {
      const found = this.#findBest(at, limit, end);
      if (found === undefined) {
        at += ((at - anchor) >> 8) + 1;
        continue;
      }
      if (found.code > 3) {
        this.#extendBack(found, anchor);
        this.#secondLast = this.#last;
        this.#last = found.code - 3;
      }
      this.#store(anchor, found.start, found.code, found.length);
      at = this.#storeRepeats(found.start + found.length, limit, end);
      anchor = at;
    }
    this.#addLiterals(anchor, end);
    if (savedLast !== 0 && this.#last !== 0) savedSecond = savedLast;
    return [savedLast, savedSecond];
  }

  /** The match to take at `at` or a little later, undefined where there is none. */
  #findBest(at: number, limit: number, end: number): Found | undefined {
    const found: Found = { start: at + 1, length: 0, code: REPEAT };
    found.length = this.#repeatLength(at + 1, end);
    this.#searchAt(at, end, found, -Infinity);
    if (found.length < MIN_MATCH) return undefined;
    for (let next = at; next < limit; ) {
      next++;
      this.#considerRepeat(next, end, found, 3);
      if (this.#searchAt(next, end, found, 4)) continue;
      if (this.#depth < 2 || next >= limit) break;
      next++;
      this.#considerRepeat(next, end, found, 4);
      if (!this.#searchAt(next, end, found, 7)) break;
    }
    return found;
  }

  /** The length of a match with the last offset, 0 where there is none of four bytes. */
  #repeatLength(at: number, end: number): number {
    const offset = this.#last;
    if (offset === 0 || !this.#matcher.agrees(at - offset, at)) return 0;
    return MIN_MATCH + this.#matcher.count(at + MIN_MATCH - offset, at + MIN_MATCH, end);
  }

  #considerRepeat(at: number, end: number, found: Found, weight: number): void {
    const length = this.#repeatLength(at, end);
    if (length < MIN_MATCH) return;
    if (length * weight <= found.length * weight - highBit(found.code) + 1) return;
    found.start = at;
    found.length = length;
    found.code = REPEAT;
  }

  /**
   * Replaces `found` by a match at `at` if that is better by more than `margin`, in quarters of a
   * byte; without a margin, if it is longer.
   */
  #searchAt(at: number, end: number, found: Found, margin: number): boolean {
    const length = this.#matcher.find(at, end);
    if (margin === -Infinity) {
      if (length <= found.length) return false;
    } else {
      if (length < MIN_MATCH) return false;
      const gain = length * 4 - highBit(this.#matcher.distance + 3);
      if (gain <= found.length * 4 - highBit(found.code) + margin) return false;
    }
    found.start = at;
    found.length = length;
    found.code = length < MIN_MATCH ? REPEAT : this.#matcher.distance + 3;
    return true;
  }

  #extendBack(found: Found, anchor: number): void {
    const input = this.#input;
    const offset = found.code - 3;
    const { low } = this.#matcher;
    while (
      found.start > anchor &&
      found.start - offset > low &&
      input[found.start - 1] === input[found.start - offset - 1]
    ) {
      found.start--;
      found.length++;
    }
  }

  /** Stores matches with the offset before the last that follow at once; returns where they end. */
  #storeRepeats(start: number, limit: number, end: number): number {
    let at = start;
    while (at <= limit && this.#secondLast > 0 && this.#matcher.agrees(at - this.#secondLast, at)) {
      const offset = this.#secondLast;
      const from = at + MIN_MATCH;
      const length = MIN_MATCH + this.#matcher.count(from - offset, from, end);
      this.#secondLast = this.#last;
      this.#last = offset;
      this.#store(at, at, REPEAT, length);
      at += length;
    }
    return at;
  }

  #store(anchor: number, start: number, code: number, length: number): void {
    const { sequences } = this;
    const index = sequences.size++;
    this.#addLiterals(anchor, start);
    sequences.literalLengths[index] = start - anchor;
    sequences.offsets[index] = code;
    sequences.matchLengths[index] = length - 3;
  }

  #addLiterals(from: number, to: number): void {
    this.#literals.set(this.#input.subarray(from, to), this.#literalSize);
    this.#literalSize += to - from;
  }
}
