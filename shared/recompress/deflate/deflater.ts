import { SnapgateError } from '../../errors.ts';
import { MAX_MATCH, MIN_MATCH } from './alphabets.ts';
import { BlockWriter } from './block-writer.ts';

/**
 * Whose output is wanted. `gnu` is GNU gzip (1.2.4 to 1.14 write the same bytes); `zlib` is the
 * library of that name with its default strategy and a 32 KiB window.
 */
export type DeflateSettings = {
  readonly style: 'gnu' | 'zlib';
  /** 1 to 9. */
  readonly level: number;
  /** zlib's memory level, 1 to 9; 8 is what nearly everything uses. Of no meaning to `gnu`. */
  readonly memoryLevel?: number;
};

type Tuning = {
  /** Length of a match from which less is searched. */
  readonly good: number;
  /** Longest match that is not taken at once (or, without laziness, that is indexed throughout). */
  readonly lazy: number;
  /** Length that ends a search. */
  readonly nice: number;
  /** Candidates looked at. */
  readonly chain: number;
};

/** Levels 1 to 9; the first three take each match at once. */
const TUNING: readonly Tuning[] = [
  { good: 4, lazy: 4, nice: 8, chain: 4 },
  { good: 4, lazy: 5, nice: 16, chain: 8 },
  { good: 4, lazy: 6, nice: 32, chain: 32 },
  { good: 4, lazy: 4, nice: 16, chain: 16 },
  { good: 8, lazy: 16, nice: 32, chain: 32 },
  { good: 8, lazy: 16, nice: 128, chain: 128 },
  { good: 8, lazy: 32, nice: 128, chain: 256 },
  { good: 32, lazy: 128, nice: 258, chain: 1024 },
  { good: 32, lazy: 258, nice: 258, chain: 4096 },
];
const LAST_EAGER_LEVEL = 3;

const WINDOW = 32768;
const MASK = WINDOW - 1;
const MIN_LOOKAHEAD = MAX_MATCH + MIN_MATCH + 1;
const MAX_DISTANCE = WINDOW - MIN_LOOKAHEAD;
/** Matches of three bytes are not worth a longer distance than this. */
const TOO_FAR = 4096;

/** Memory that one {@link Deflater} takes, in bytes. */
export const DEFLATER_MEMORY = 2 * 1024 * 1024;

/**
 * DEFLATE (RFC 1951) with exactly the choices of GNU gzip or of zlib, so that what they packed can
 * be packed again bit for bit. Streams in bounded memory: {@link Deflater.push} any number of times,
 * then {@link Deflater.finish}.
 */
export class Deflater {
  readonly #gnu: boolean;
  readonly #level: number;
  readonly #tuning: Tuning;
  readonly #blocks: BlockWriter;
  readonly #hashMask: number;
  readonly #hashShift: number;
  /** Two windows; what lies beyond the lookahead is old data, which GNU gzip may compare with. */
  readonly #window = new Uint8Array(2 * WINDOW + MAX_MATCH);
  readonly #heads: Uint16Array;
  readonly #chains = new Uint16Array(WINDOW);
  #hash = 0;
  #at = 0;
  #lookahead = 0;
  #blockStart = 0;
  /** Bytes that the read under way may still take, and those that it took. */
  #room = 2 * WINDOW;
  #taken = 0;
  #ended = false;
  #started = false;
  #matchStart = 0;
  #matchLength = MIN_MATCH - 1;
  #pending = false;

  constructor(settings: DeflateSettings) {
    const { style, level, memoryLevel = 8 } = settings;
    const tuning = Number.isInteger(level) ? TUNING[level - 1] : undefined;
    if (tuning === undefined || !(memoryLevel >= 1 && memoryLevel <= 9)) {
      throw new SnapgateError('UNSUPPORTED', 'no such DEFLATE level');
    }
    this.#gnu = style === 'gnu';
    this.#level = level;
    this.#tuning = tuning;
    const hashBits = this.#gnu ? 15 : memoryLevel + 7;
    this.#hashMask = (1 << hashBits) - 1;
    this.#hashShift = Math.floor((hashBits + MIN_MATCH - 1) / MIN_MATCH);
    this.#heads = new Uint16Array(1 << hashBits);
    this.#blocks = new BlockWriter(1 << (this.#gnu ? 15 : memoryLevel + 6));
  }

  /** Begins another stream: as a new one with the same settings would, without taking its memory anew. */
  restart(): void {
    this.#blocks.restart();
    this.#window.fill(0);
    this.#heads.fill(0);
    this.#hash = 0;
    this.#at = 0;
    this.#lookahead = 0;
    this.#blockStart = 0;
    this.#room = 2 * WINDOW;
    this.#taken = 0;
    this.#ended = false;
    this.#started = false;
    this.#matchStart = 0;
    this.#matchLength = MIN_MATCH - 1;
    this.#pending = false;
  }

  /** Takes `input` and returns the packed bytes that are complete. */
  push(input: Uint8Array): Uint8Array {
    let from = 0;
    while (from < input.length) {
      const count = Math.min(this.#room, input.length - from);
      const target = this.#at + this.#lookahead + this.#taken;
      this.#window.set(input.subarray(from, from + count), target);
      from += count;
      this.#taken += count;
      this.#room -= count;
      if (this.#room === 0) this.#advance();
    }
    return this.#blocks.out.take();
  }

  /** Packs what is left and returns the last bytes. */
  finish(): Uint8Array {
    while (!this.#ended) this.#advance();
    if (this.#pending) this.#blocks.literal(this.#byte(this.#at - 1));
    this.#flush(true);
    return this.#blocks.out.take();
  }

  /** Ends the read under way, packs while there is enough lookahead, and prepares the next read. */
  #advance(): void {
    this.#lookahead += this.#taken;
    if (this.#taken === 0) {
      this.#ended = true;
      this.#window.fill(0, this.#at + this.#lookahead, this.#at + this.#lookahead + MIN_MATCH - 1);
    }
    this.#taken = 0;
    if (this.#ended || this.#lookahead >= MIN_LOOKAHEAD) {
      if (!this.#started) this.#restartHash();
      this.#started = true;
      if (this.#level <= LAST_EAGER_LEVEL) this.#packEagerly();
      else this.#packLazily();
    }
    this.#room = 2 * WINDOW - this.#lookahead - this.#at;
    if (this.#at >= WINDOW + MAX_DISTANCE) this.#slide();
  }

  #slide(): void {
    const window = this.#window;
    window.copyWithin(0, WINDOW, 2 * WINDOW);
    this.#matchStart -= WINDOW;
    this.#at -= WINDOW;
    this.#blockStart -= WINDOW;
    for (const table of [this.#heads, this.#chains]) {
      for (let index = 0; index < table.length; index++) {
        const position = table[index] as number;
        table[index] = position >= WINDOW ? position - WINDOW : 0;
      }
    }
    this.#room += WINDOW;
  }

  #byte(position: number): number {
    return this.#window[position] as number;
  }

  #restartHash(): void {
    const first = this.#byte(this.#at);
    this.#hash = ((first << this.#hashShift) ^ this.#byte(this.#at + 1)) & this.#hashMask;
  }

  /** Indexes the three bytes at `position`; returns the last position with the same hash, or 0. */
  #index(position: number): number {
    const heads = this.#heads;
    const next = this.#window[position + MIN_MATCH - 1] as number;
    const hash = ((this.#hash << this.#hashShift) ^ next) & this.#hashMask;
    this.#hash = hash;
    const head = heads[hash] as number;
    this.#chains[position & MASK] = head;
    heads[hash] = position;
    return head;
  }

  /** Indexes positions `from` to `to`, both included; zlib leaves out what is short of bytes. */
  #indexRange(from: number, to: number): void {
    const end = this.#gnu ? to : Math.min(to, this.#at + this.#lookahead - MIN_MATCH);
    for (let position = from; position <= end; position++) this.#index(position);
  }

  #indexHere(): number {
    return this.#gnu || this.#lookahead >= MIN_MATCH ? this.#index(this.#at) : 0;
  }

  #reachable(candidate: number): boolean {
    return (
      candidate !== 0 &&
      this.#at - candidate <= MAX_DISTANCE &&
      this.#at <= 2 * WINDOW - MIN_LOOKAHEAD
    );
  }

  #enoughLookahead(): boolean {
    return this.#ended ? this.#lookahead > 0 : this.#lookahead >= MIN_LOOKAHEAD;
  }

  /** Levels 1 to 3. */
  #packEagerly(): void {
    const { lazy } = this.#tuning;
    while (this.#enoughLookahead()) {
      const candidate = this.#indexHere();
      let length = 0;
      if (this.#reachable(candidate)) length = this.#longestMatch(candidate, MIN_MATCH - 1);
      let full: boolean;
      if (length >= MIN_MATCH) {
        full = this.#blocks.match(length, this.#at - this.#matchStart) || this.#guessEnd();
        if (length <= lazy && (this.#gnu || this.#lookahead - length >= MIN_MATCH)) {
          const start = this.#at;
          this.#indexRange(start + 1, start + length - 1);
          this.#at = start + length;
          this.#lookahead -= length;
        } else {
          this.#at += length;
          this.#lookahead -= length;
          this.#restartHash();
        }
      } else {
        full = this.#blocks.literal(this.#byte(this.#at)) || this.#guessEnd();
        this.#at++;
        this.#lookahead--;
      }
      if (full) this.#flush(false);
    }
  }

  /** Levels 4 to 9: a match waits for the next position to have a better one. */
  #packLazily(): void {
    const { lazy } = this.#tuning;
    while (this.#enoughLookahead()) {
      const candidate = this.#indexHere();
      const previousLength = this.#matchLength;
      const previousStart = this.#matchStart;
      let length = MIN_MATCH - 1;
      if (previousLength < lazy && this.#reachable(candidate)) {
        length = this.#longestMatch(candidate, previousLength);
        if (length === MIN_MATCH && this.#at - this.#matchStart > TOO_FAR) length--;
      }
      this.#matchLength = length;
      if (previousLength >= MIN_MATCH && length <= previousLength) {
        const distance = this.#at - 1 - previousStart;
        const full = this.#blocks.match(previousLength, distance) || this.#guessEnd();
        const end = this.#at + previousLength - 1;
        this.#indexRange(this.#at + 1, end - 1);
        this.#lookahead -= previousLength - 1;
        this.#at = end;
        this.#pending = false;
        this.#matchLength = MIN_MATCH - 1;
        if (full) this.#flush(false);
        continue;
      }
      if (this.#pending && (this.#blocks.literal(this.#byte(this.#at - 1)) || this.#guessEnd())) {
        this.#flush(false);
      }
      this.#pending = true;
      this.#at++;
      this.#lookahead--;
    }
  }

  /** The longest match, more than `atLeast` bytes, else `atLeast`; sets the match's start. */
  #longestMatch(first: number, atLeast: number): number {
    const window = this.#window;
    const chains = this.#chains;
    const at = this.#at;
    const lookahead = this.#lookahead;
    const { good, chain } = this.#tuning;
    const limit = at > MAX_DISTANCE ? at - MAX_DISTANCE : 0;
    // zlib never looks past its input; GNU gzip does, and cuts the length afterwards.
    const nice = this.#gnu ? this.#tuning.nice : Math.min(this.#tuning.nice, lookahead);
    let left = atLeast >= good ? chain >> 2 : chain;
    let best = atLeast;
    let bestEnd = window[at + best] as number;
    let beforeEnd = window[at + best - 1] as number;
    const first0 = window[at] as number;
    const first1 = window[at + 1] as number;
    for (let candidate = first; ; ) {
      if (
        window[candidate + best] === bestEnd &&
        window[candidate + best - 1] === beforeEnd &&
        window[candidate] === first0 &&
        window[candidate + 1] === first1
      ) {
        const length = matchLength(window, candidate, at);
        if (length > best) {
          this.#matchStart = candidate;
          best = length;
          if (length >= nice) break;
          bestEnd = window[at + best] as number;
          beforeEnd = window[at + best - 1] as number;
        }
      }
      candidate = chains[candidate & MASK] as number;
      if (candidate <= limit || --left === 0) break;
    }
    return Math.min(best, lookahead);
  }

  /** GNU gzip may end a block early, at every 4096th symbol. */
  #guessEnd(): boolean {
    return (
      this.#gnu &&
      this.#level > 2 &&
      (this.#blocks.size & 0xfff) === 0 &&
      this.#blocks.looksWellPacked(this.#at - this.#blockStart)
    );
  }

  #flush(last: boolean): void {
    const start = this.#blockStart;
    const input = start < 0 ? undefined : this.#window.subarray(start, this.#at);
    this.#blocks.flush(input, this.#at - start, last);
    this.#blockStart = this.#at;
  }
}

/** How far the strings at two positions agree, whose first three bytes do. */
function matchLength(window: Uint8Array, candidate: number, at: number): number {
  let length = MIN_MATCH;
  while (length < MAX_MATCH && window[candidate + length] === window[at + length]) length++;
  return length;
}
