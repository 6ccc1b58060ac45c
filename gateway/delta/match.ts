import { equalRun, hashAt, MatchIndex, MIN_MATCH, rollHash } from './match-index.ts';

/**
 * How a new file is made of an old one: in order of `newOffset`, without overlap, `length` bytes
 * that resemble the old ones from `oldOffset` (most are equal). What lies between is new.
 */
export type Match = {
  readonly oldOffset: number;
  readonly newOffset: number;
  readonly length: number;
};

/** How much better than what the match before it explains a new one must be, in bytes. */
const MIN_GAIN = 6;
/** So many agreeing zeros say as much as another agreeing byte, */
const ZERO_WEIGHT = 3;
/** where a match goes on for at least so many bytes by their means. */
const MIN_TABLE = 16_384;
/** A run this long under the present alignment is followed without looking for another. */
const MIN_FOLLOW = 8;
/** After this many bytes without a match the search takes longer steps. */
const PATIENCE = 64 * 1024;
const MAX_STRIDE = 8;

/**
 * Finds what of `fresh` resembles `old`, as bsdiff does: exact runs are looked up, then extended
 * forwards and backwards over differing bytes as long as at least half of them agree. Runs come from
 * a hash index of the old file instead of a suffix array, which is faster and takes less memory; an index
 * of `old` that is there already may be given.
 */
export function findMatches(
  old: Uint8Array,
  fresh: Uint8Array,
  index = new MatchIndex(old),
): Match[] {
  if (old.length < MIN_MATCH || fresh.length < MIN_MATCH) return wholeMatch(old, fresh);
  return new Matcher(old, fresh, index).run();
}

/** Files too short to be searched: laid over each other where that explains at least half. */
function wholeMatch(old: Uint8Array, fresh: Uint8Array): Match[] {
  const length = extendForwards(old, 0, fresh, 0, fresh.length);
  return length === 0 ? [] : [{ oldOffset: 0, newOffset: 0, length }];
}

class Matcher {
  readonly #old: Uint8Array;
  readonly #fresh: Uint8Array;
  readonly #index: MatchIndex;
  readonly #matches: Match[] = [];
  /** Start of the match that is not emitted yet; its length is known once the next one is found. */
  #oldStart = 0;
  #newStart = 0;

  constructor(old: Uint8Array, fresh: Uint8Array, index: MatchIndex) {
    this.#old = old;
    this.#fresh = fresh;
    this.#index = index;
  }

  run(): Match[] {
    const fresh = this.#fresh;
    const last = fresh.length - MIN_MATCH;
    let hash = hashAt(fresh, 0);
    let hashed = 0;
    let failed = 0;
    for (let at = 0; at <= last; ) {
      const followed = this.#follow(at);
      if (followed >= MIN_FOLLOW) {
        at += followed;
        failed = at;
        continue;
      }
      if (at === hashed + 1) hash = rollHash(hash, fresh, hashed);
      else if (at !== hashed) hash = hashAt(fresh, at);
      hashed = at;
      const length = this.#index.find(fresh, at, hash);
      if (length === 0) {
        at += at - failed < PATIENCE ? 1 : Math.min(MAX_STRIDE, ((at - failed) / PATIENCE) | 0);
        continue;
      }
      failed = at;
      if (this.#improves(at, length)) {
        this.#finishBefore(this.#index.position, at);
        at += length;
        failed = at;
      } else {
        // A longer run that starts further on is extended back to here.
        at += Math.max(1, length - MIN_MATCH + 1);
      }
    }
    this.#finishBefore(-1, fresh.length);
    return this.#matches;
  }

  /** How far the present alignment explains `fresh` from `at` exactly. */
  #follow(at: number): number {
    const oldAt = at + this.#oldStart - this.#newStart;
    if (oldAt < 0 || oldAt >= this.#old.length) return 0;
    return equalRun(this.#old, oldAt, this.#fresh, at);
  }

  /** Whether the run that was found explains more than the present alignment does. */
  #improves(at: number, length: number): boolean {
    const old = this.#old;
    const fresh = this.#fresh;
    const shift = this.#oldStart - this.#newStart;
    const start = Math.max(at, -shift);
    const end = Math.min(at + length, old.length - shift);
    let agreeing = 0;
    for (let i = start; i < end; i += 1) if (old[i + shift] === fresh[i]) agreeing += 1;
    return length > agreeing + MIN_GAIN;
  }

  /**
   * Ends the match before a run at `oldAt` and `newAt`, and starts one there; `oldAt` is -1 at the
   * end of the file. Both are extended towards each other, and where they meet the better one gets
   * the bytes.
   */
  #finishBefore(oldAt: number, newAt: number): void {
    const old = this.#old;
    const fresh = this.#fresh;
    const room = newAt - this.#newStart;
    let forwards = extendForwards(old, this.#oldStart, fresh, this.#newStart, room);
    let backwards = oldAt < 0 ? 0 : extendBackwards(old, oldAt, fresh, newAt, room);
    const overlap = forwards + backwards - room;
    if (overlap > 0) {
      const split = this.#splitOverlap(this.#newStart + room - backwards, overlap, oldAt - newAt);
      forwards -= overlap - split;
      backwards -= split;
    }
    if (forwards > 0) {
      this.#matches.push({
        ...{ oldOffset: this.#oldStart, newOffset: this.#newStart, length: forwards },
      });
    }
    this.#oldStart = oldAt - backwards;
    this.#newStart = newAt - backwards;
  }

  /** How many of `count` bytes from `from` the match before explains better than the next one. */
  #splitOverlap(from: number, count: number, nextShift: number): number {
    const old = this.#old;
    const fresh = this.#fresh;
    const shift = this.#oldStart - this.#newStart;
    let score = 0;
    let best = 0;
    let split = 0;
    for (let i = 0; i < count; i += 1) {
      const byte = fresh[from + i];
      if (byte === old[from + i + shift]) score += 1;
      if (byte === old[from + i + nextShift]) score -= 1;
      if (score <= best) continue;
      best = score;
      split = i + 1;
    }
    return split;
  }
}

/** How far a match goes on from its first bytes; at most `room` bytes. */
function extendForwards(
  old: Uint8Array,
  oldAt: number,
  fresh: Uint8Array,
  newAt: number,
  room: number,
): number {
  const end = Math.min(room, old.length - oldAt, fresh.length - newAt);
  return extend(old, oldAt, fresh, newAt, end, 1);
}

/** The same towards the start of both files, from the bytes before. */
function extendBackwards(
  old: Uint8Array,
  oldAt: number,
  fresh: Uint8Array,
  newAt: number,
  room: number,
): number {
  return extend(old, oldAt - 1, fresh, newAt - 1, Math.min(room, oldAt, newAt), -1);
}

/**
 * The length, up to `end`, for which agreeing bytes outnumber differing ones most. Zeros, of which
 * tables are full, agree by chance: where they alone carry a match far, it ends without them.
 */
function extend(
  old: Uint8Array,
  oldAt: number,
  fresh: Uint8Array,
  newAt: number,
  end: number,
  step: number,
): number {
  let score = 0;
  let best = 0;
  let length = 0;
  let weighed = 0;
  let bestWeighed = 0;
  let lengthWeighed = 0;
  for (let i = 0; i < end; ) {
    const byte = fresh[newAt + step * i];
    if (old[oldAt + step * i] === byte) {
      score += 1;
      weighed += byte === 0 ? 1 : ZERO_WEIGHT;
    } else {
      score -= 1;
      weighed -= ZERO_WEIGHT;
    }
    i += 1;
    if (score > best) {
      best = score;
      length = i;
    }
    if (weighed > bestWeighed) {
      bestWeighed = weighed;
      lengthWeighed = i;
    }
  }
  return length - lengthWeighed < MIN_TABLE ? length : lengthWeighed;
}

/** Matches as threads pass them on: old offset, new offset and length, three numbers each. */
export function flatMatches(matches: readonly Match[]): Float64Array<ArrayBuffer> {
  const flat = new Float64Array(matches.length * 3);
  for (const [i, match] of matches.entries()) {
    flat.set([match.oldOffset, match.newOffset, match.length], i * 3);
  }
  return flat;
}
