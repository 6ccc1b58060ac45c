import type { FoundMatches, Stretch } from './delta-work.ts';
import { findMatches, flatMatches, type Match } from './match.ts';
import { equalRun, indexBytes, MatchIndex } from './match-index.ts';
import type { ReadRange } from './spool-file.ts';
import { WorkMemory } from './work-memory.ts';

/** A candidate that leaves less than this share of the new file to be sent needs no rival. */
const GOOD_SHARE = 0.3;
/** What naming a match costs, in bytes, before it is packed. */
const MATCH_COST = 8;
/** Shortest equal end of packed files that is worth naming, in bytes. */
const MIN_PACKED_RUN = 64;
/** Smaller windows of the new file lose where they meet, in bytes. */
const MIN_WINDOW = 8 * 1024 * 1024;
/** How often the table of an index is halved, for a file that would not be held whole otherwise. */
const MAX_HALVINGS = 2;

/** One side: how to read it, and which part. */
export type Side = { readonly read: ReadRange; readonly stretch: Stretch };

/** Whether only ends are compared, bytes of memory, and places looked at for one run. */
export type MatchOptions = {
  readonly endsOnly: boolean;
  readonly memoryBytes: number;
  readonly chain?: number;
  /** Used for buffers and index; its own when absent. */
  readonly memory?: WorkMemory;
};

/**
 * Matches a new file with the best of some old ones. A file too large for the memory allowed is
 * compared window by window: with all of the old one, or with its bytes around the same place.
 * Undefined when no candidate helps.
 */
export function matchStretches(
  fresh: Side,
  candidates: readonly Side[],
  options: MatchOptions,
): FoundMatches | undefined {
  const { size } = fresh.stretch;
  let best: FoundMatches | undefined;
  for (const [candidate, old] of candidates.entries()) {
    const collected = new Collector();
    if (options.endsOnly) compareEnds(old, fresh, collected);
    else matchWindows(old, fresh, options, collected);
    const cost = size - collected.agreeing + MATCH_COST * collected.matches.length;
    if (cost < (best?.cost ?? size)) {
      best = { candidate, matches: flatMatches(collected.matches), cost };
    }
    if ((best?.cost ?? size) < size * GOOD_SHARE) break;
  }
  return best;
}

/** Gathers matches of windows at their places in the whole files. */
class Collector {
  readonly matches: Match[] = [];
  agreeing = 0;

  add(old: Uint8Array, oldAt: number, fresh: Uint8Array, newAt: number, found: readonly Match[]) {
    for (const { oldOffset, newOffset, length } of found) {
      for (let i = 0; i < length; i += 1) {
        if (old[oldOffset + i] === fresh[newOffset + i]) this.agreeing += 1;
      }
      this.#push({ oldOffset: oldAt + oldOffset, newOffset: newAt + newOffset, length });
    }
  }

  /** A match that goes on where the last one ended, as at the edge of windows, becomes one with it. */
  #push(match: Match): void {
    const last = this.matches.at(-1);
    const joins =
      last !== undefined &&
      last.newOffset + last.length === match.newOffset &&
      last.oldOffset + last.length === match.oldOffset;
    if (!joins) this.matches.push(match);
    else this.matches[this.matches.length - 1] = { ...last, length: last.length + match.length };
  }
}

function matchWindows(
  old: Side,
  fresh: Side,
  { memoryBytes, chain, memory = new WorkMemory() }: MatchOptions,
  collected: Collector,
): void {
  const [oldSize, newSize] = [old.stretch.size, fresh.stretch.size];
  const window = windowSizes(oldSize, newSize, memoryBytes);
  let held: { at: number; old: Buffer; index: MatchIndex; fresh: Buffer } | undefined;
  for (let newAt = 0; newAt < newSize; newAt += window.fresh) {
    const length = Math.min(window.fresh, newSize - newAt);
    const middle = ((newAt + length / 2) / newSize) * oldSize;
    const oldAt = Math.floor(Math.max(0, Math.min(oldSize - window.old, middle - window.old / 2)));
    if (held?.at !== oldAt) {
      memory.begin(window.old + indexBytes(window.old, window.halvings) + window.fresh);
      const oldBuffer = memory.bytes(window.old);
      old.read(oldBuffer, old.stretch.offset + oldAt);
      const index = new MatchIndex(oldBuffer, { chain, memory, halvings: window.halvings });
      held = { at: oldAt, old: oldBuffer, index, fresh: memory.bytes(window.fresh) };
    }
    const bytes = held.fresh.subarray(0, length);
    fresh.read(bytes, fresh.stretch.offset + newAt);
    collected.add(held.old, oldAt, bytes, newAt, findMatches(held.old, bytes, held.index));
  }
}

/**
 * How much of each side is held at once. All of the old one where there is room: what moved far is
 * found, and it is indexed once. Otherwise an old window is twice as long as the new one: what moved
 * would lie outside of it at every edge.
 */
function windowSizes(oldSize: number, newSize: number, memoryBytes: number) {
  const fits = (old: number, fresh: number, halvings = 0) =>
    old + indexBytes(old, halvings) + fresh <= memoryBytes;
  let [old, fresh] = [oldSize, newSize];
  const least = Math.min(newSize, MIN_WINDOW);
  for (let halvings = 0; halvings <= MAX_HALVINGS; halvings += 1) {
    if (!fits(old, least, halvings)) continue;
    while (!fits(old, fresh, halvings)) fresh = Math.max(least, Math.ceil(fresh / 2));
    return { old, fresh, halvings };
  }
  const isTight = () => old < oldSize && fresh > old / 2;
  while ((!fits(old, fresh) || isTight()) && old + fresh > 2) {
    if (fresh > old / 2) fresh = Math.ceil(fresh / 2);
    else old = Math.ceil(old / 2);
  }
  return { old, fresh, halvings: 0 };
}

/** Packed files differ from the first change on; what they share stands at their ends. */
function compareEnds(old: Side, fresh: Side, collected: Collector): void {
  const size = Math.min(old.stretch.size, fresh.stretch.size);
  const front = commonFront(old, fresh, size);
  const back = commonBack(old, fresh, size - front);
  if (front >= MIN_PACKED_RUN) {
    collected.matches.push({ oldOffset: 0, newOffset: 0, length: front });
    collected.agreeing += front;
  }
  if (back >= MIN_PACKED_RUN) {
    collected.matches.push({
      oldOffset: old.stretch.size - back,
      newOffset: fresh.stretch.size - back,
      length: back,
    });
    collected.agreeing += back;
  }
}

const CHUNK = 64 * 1024;

function commonFront(old: Side, fresh: Side, limit: number): number {
  for (let done = 0; done < limit; ) {
    const count = Math.min(CHUNK, limit - done);
    const a = readPart(old, done, count);
    const run = equalRun(a, 0, readPart(fresh, done, count), 0);
    done += run;
    if (run < count) return done;
  }
  return limit;
}

function commonBack(old: Side, fresh: Side, limit: number): number {
  for (let done = 0; done < limit; ) {
    const count = Math.min(CHUNK, limit - done);
    const a = readPart(old, old.stretch.size - done - count, count).reverse();
    const b = readPart(fresh, fresh.stretch.size - done - count, count).reverse();
    const run = equalRun(a, 0, b, 0);
    done += run;
    if (run < count) return done;
  }
  return limit;
}

function readPart(side: Side, at: number, count: number): Buffer {
  const bytes = Buffer.allocUnsafe(count);
  side.read(bytes, side.stretch.offset + at);
  return bytes;
}
