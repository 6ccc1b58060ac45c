import { addressOf } from '../../shared/delta/layer-delta/prediction.ts';
import type { FileStretch, ProgramStretch } from './address-map.ts';
import { differing } from './match-index.ts';

/** Tables are looked for block by block; bytes. */
const BLOCK = 4096;
/** Bytes read at a time. */
const CHUNK = 256 * 1024;
/** How many words tell that a block is no table. */
const FIRST_WORDS = 32;
/** Every how many words of a block are judged: entries of one, two and four words show all of them. */
const SAMPLE = 3;
/** Most bytes of tables of one kind that are looked at. */
const MAX_TABLES = 8 * 1024 * 1024;
/** Smaller numbers may be anything. */
const MIN_ADDRESS = 65_536;

/** How a kind of table says addresses. */
export type AddressKind = {
  readonly isRelative: boolean;
  readonly wordBytes: 4 | 8;
  /** Share of the words judged that must be addresses. */
  readonly share: number;
};

/** Those that there are modes of prediction for, the surest first. */
export const ADDRESS_KINDS: readonly AddressKind[] = [
  { isRelative: true, wordBytes: 4, share: 0.5 },
  { isRelative: false, wordBytes: 4, share: 0.5 },
  { isRelative: false, wordBytes: 8, share: 0.3 },
];

/** One version of a program. */
export type ProgramSide = FileStretch & { readonly stretches: readonly ProgramStretch[] };

/** A part of a file, in bytes. */
export type Place = { readonly offset: number; readonly length: number };

/** The parts of a program, outside of its code, that are tables, by kind. */
export function tablesOf(side: ProgramSide): ReadonlyMap<AddressKind, readonly Place[]> {
  const tables = new Map(ADDRESS_KINDS.map((kind) => [kind, new Tables()]));
  const chunk = Buffer.allocUnsafe(CHUNK);
  for (let start = 0; start + BLOCK <= side.size; start += CHUNK) {
    const bytes = chunk.subarray(0, Math.min(CHUNK, side.size - start));
    side.read(bytes, side.offset + start);
    for (let at = 0; at + BLOCK <= bytes.length; at += BLOCK) {
      const offset = start + at;
      if (isCode(side, { offset, length: BLOCK })) continue;
      const block = bytes.subarray(at, at + BLOCK);
      const kind = ADDRESS_KINDS.find((one) => isTable(side, one, block, offset));
      if (kind !== undefined) tables.get(kind)?.add(offset);
    }
  }
  return new Map([...tables].map(([kind, { places }]) => [kind, places]));
}

function isCode({ stretches }: ProgramSide, place: Place): boolean {
  return stretches.some((stretch) => stretch.isCode && overlap(stretch, place));
}

/** Gathers blocks, as many as are to be looked at, to runs. */
class Tables {
  readonly places: Place[] = [];
  #bytes = 0;

  add(offset: number): void {
    if (this.#bytes >= MAX_TABLES) return;
    this.#bytes += BLOCK;
    const last = this.places.at(-1);
    if (last === undefined || last.offset + last.length !== offset) {
      this.places.push({ offset, length: BLOCK });
    } else {
      this.places[this.places.length - 1] = { ...last, length: last.length + BLOCK };
    }
  }
}

/** A block whose first words are no addresses is none. */
function isTable(side: ProgramSide, kind: AddressKind, block: Buffer, offset: number): boolean {
  const few = addressesAmong(side, kind, block, offset, FIRST_WORDS);
  if (few < (kind.share * FIRST_WORDS) / 2) return false;
  const words = Math.ceil(BLOCK / kind.wordBytes / SAMPLE);
  return addressesAmong(side, kind, block, offset, words) >= kind.share * words;
}

/** How many of the first `count` words that are judged are addresses. */
function addressesAmong(
  side: ProgramSide,
  kind: AddressKind,
  block: Buffer,
  offset: number,
  count: number,
): number {
  const start = kind.isRelative ? addressOf(side.stretches, offset) : 0;
  if (start === Number.POSITIVE_INFINITY) return 0;
  let addresses = 0;
  for (let i = 0; i < count; i += 1) {
    const at = i * SAMPLE * kind.wordBytes;
    const value = wordAt(block, at, kind);
    if (value < MIN_ADDRESS && value > -MIN_ADDRESS) continue;
    if (isIn(side, kind.isRelative ? start + at + value : value)) addresses += 1;
  }
  return addresses;
}

function wordAt(bytes: Buffer, at: number, { wordBytes }: AddressKind): number {
  if (wordBytes === 4) return bytes.readInt32LE(at);
  return bytes.readInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
}

/** Whether a program has an address. */
export function isIn({ stretches }: ProgramSide, address: number): boolean {
  for (const stretch of stretches) {
    const within = address - stretch.address;
    if (within >= 0 && within < stretch.length) return true;
  }
  return false;
}

/**
 * The tables, end to end, with the address that each word stands for, as `changed` has it, in place of
 * the word; words that are no address, for which `changed` gives an infinite one, stay.
 */
export function addressesIn(
  side: ProgramSide,
  tables: readonly Place[],
  kind: AddressKind,
  changed: (address: number) => number,
): Buffer {
  const all = Buffer.allocUnsafe(tables.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const { offset, length } of tables) {
    const bytes = all.subarray(at, at + length);
    side.read(bytes, side.offset + offset);
    for (let i = 0; i < length; i += kind.wordBytes) {
      const value = wordAt(bytes, i, kind);
      if (value === 0) continue;
      const address = changed(
        kind.isRelative ? addressOf(side.stretches, offset + i) + value : value,
      );
      if (!Number.isFinite(address)) continue;
      bytes.writeInt32LE(address | 0, i);
      if (kind.wordBytes === 8) bytes.writeInt32LE(Math.floor(address / 2 ** 32), i + 4);
    }
    at += length;
  }
  return all;
}

/** Bytes of a place that matches (old offset, new offset, length) leave to be sent. */
export function costOf(
  old: FileStretch,
  fresh: FileStretch,
  matches: Float64Array,
  { offset, length }: Place,
): number {
  const bytes = Buffer.allocUnsafe(length);
  fresh.read(bytes, fresh.offset + offset);
  let equal = 0;
  for (let i = firstAfter(matches, offset); i < matches.length; i += 3) {
    const [oldAt = 0, newAt = 0, count = 0] = matches.subarray(i, i + 3);
    const [from, to] = [Math.max(newAt, offset), Math.min(newAt + count, offset + length)];
    if (newAt >= offset + length) break;
    if (from >= to) continue;
    const before = Buffer.allocUnsafe(to - from);
    old.read(before, old.offset + oldAt + from - newAt);
    equal += before.length - differing(before, bytes.subarray(from - offset, to - offset));
  }
  return length - equal;
}

/** Where the first match stands that ends after an offset; they are in order of their new offsets. */
function firstAfter(matches: Float64Array, offset: number): number {
  let [low, high] = [0, matches.length / 3];
  while (low < high) {
    const middle = (low + high) >> 1;
    const end = (matches[3 * middle + 1] ?? 0) + (matches[3 * middle + 2] ?? 0);
    if (end <= offset) low = middle + 1;
    else high = middle;
  }
  return 3 * low;
}

export function overlap(a: Place, b: Place): boolean {
  return a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}
