import type { AddressMap } from '../../shared/delta/layer-delta/prediction.ts';
import {
  ADDRESS_KINDS,
  type AddressKind,
  addressesIn,
  costOf,
  isIn,
  type Place,
  type ProgramSide,
  tablesOf,
} from './address-tables.ts';
import { findMatches, flatMatches, type Match } from './match.ts';
import { differing } from './match-index.ts';

/** Tables that cost less than this with the matches that there are, in bytes, stay as they are. */
const MIN_COST = 512;
/** What a match by addresses may cost, as a share of what one by bytes costs. */
const MAX_SHARE = 0.5;

/** Matches of a program, and where it has tables of words. */
export type MatchedTables = { readonly matches: Float64Array; readonly words: readonly Place[] };

/** A match of one table with another, and how many of its bytes differ. */
type Piece = Match & { readonly differing: number };

/**
 * Matches tables of addresses anew. Every entry of such a table changes when what it points to moves,
 * so that equal bytes do not say what belongs together; equal addresses do, once those of the old side
 * are looked up in the map of what moved. Returns the matches given (old offset, new offset, length,
 * three numbers each) with better ones in place of those inside of tables, and the tables of words.
 */
export function matchTables(
  old: ProgramSide,
  fresh: ProgramSide,
  matches: Float64Array,
  map: AddressMap,
): MatchedTables {
  const taken: Place[] = [];
  const found: Match[] = [];
  const after = tablesOf(fresh);
  let before: ReturnType<typeof tablesOf> | undefined;
  for (const kind of ADDRESS_KINDS) {
    const tables = after.get(kind) ?? [];
    const costs = tables.map((table) => costOf(old, fresh, matches, table));
    if (costs.reduce((sum, cost) => sum + cost, 0) < MIN_COST) continue;
    before ??= tablesOf(old);
    const sources = before.get(kind) ?? [];
    if (sources.length === 0) continue;
    const pieces = matchAddresses(
      { side: old, tables: sources },
      { side: fresh, tables },
      kind,
      map,
    );
    let next = 0;
    for (const [i, table] of tables.entries()) {
      const first = next;
      while (isWithin(table, pieces[next]?.newOffset)) next += 1;
      const own = pieces.slice(first, next);
      const left = own.reduce((sum, piece) => sum - piece.length + piece.differing, table.length);
      if (left > MAX_SHARE * (costs[i] ?? 0)) continue;
      taken.push(table);
      found.push(...own);
    }
  }
  const words = ADDRESS_KINDS.filter(({ wordBytes }) => wordBytes === 4);
  return {
    matches: taken.length === 0 ? matches : joined(matches, taken, found),
    words: words.flatMap((kind) => after.get(kind) ?? []),
  };
}

type Tables = { readonly side: ProgramSide; readonly tables: readonly Place[] };

/** Matches all tables of a kind by the addresses in them. */
function matchAddresses(
  old: Tables,
  fresh: Tables,
  kind: AddressKind,
  { addresses }: AddressMap,
): Piece[] {
  const [before, after] = [new Row(old.tables), new Row(fresh.tables)];
  const oldWords = addressesIn(old.side, old.tables, kind, addresses.moved);
  const newWords = addressesIn(fresh.side, fresh.tables, kind, (address) =>
    isIn(fresh.side, address) ? address : Number.POSITIVE_INFINITY,
  );
  const pieces: Piece[] = [];
  for (const { oldOffset, newOffset, length } of findMatches(oldWords, newWords)) {
    for (let done = 0; done < length; ) {
      const from = before.placeOf(oldOffset + done);
      const to = after.placeOf(newOffset + done);
      const count = Math.min(length - done, from.left, to.left);
      const [oldAt, newAt] = [oldOffset + done, newOffset + done];
      const left = differing(
        oldWords.subarray(oldAt, oldAt + count),
        newWords.subarray(newAt, newAt + count),
      );
      pieces.push({ oldOffset: from.offset, newOffset: to.offset, length: count, differing: left });
      done += count;
    }
  }
  return pieces;
}

/** Tables that are laid end to end. */
class Row {
  readonly #tables: readonly Place[];
  readonly #ends: number[] = [];

  constructor(tables: readonly Place[]) {
    this.#tables = tables;
    let end = 0;
    for (const { length } of tables) {
      end += length;
      this.#ends.push(end);
    }
  }

  /** Where a byte of the row stands in the file, and how many follow in the same table with it. */
  placeOf(at: number): { offset: number; left: number } {
    let [low, high] = [0, this.#ends.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#ends[middle] ?? 0) <= at) low = middle + 1;
      else high = middle;
    }
    const { offset, length } = this.#tables[low] as Place;
    const left = (this.#ends[low] ?? 0) - at;
    return { offset: offset + length - left, left };
  }
}

function isWithin({ offset, length }: Place, at: number | undefined): boolean {
  return at !== undefined && at >= offset && at < offset + length;
}

/** Matches outside of some places, and those found inside of them, in order. */
function joined(
  matches: Float64Array,
  taken: readonly Place[],
  found: readonly Match[],
): Float64Array {
  const places = taken.toSorted((a, b) => a.offset - b.offset);
  const all = [...found];
  let next = 0;
  for (let i = 0; i < matches.length; i += 3) {
    const [oldAt = 0, start = 0, length = 0] = matches.subarray(i, i + 3);
    let newAt = start;
    const end = start + length;
    while (next > 0 && (places[next - 1] as Place).offset >= newAt) next -= 1;
    for (let j = next; newAt < end; j += 1) {
      const place = places[j];
      const until = Math.min(end, place?.offset ?? end);
      if (until > newAt) {
        all.push({ oldOffset: oldAt + newAt - start, newOffset: newAt, length: until - newAt });
      }
      if (place === undefined) break;
      newAt = Math.max(newAt, place.offset + place.length);
      next = j;
    }
  }
  all.sort((a, b) => a.newOffset - b.newOffset);
  return flatMatches(all);
}
