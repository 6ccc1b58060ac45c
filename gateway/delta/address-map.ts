import {
  AddressMap,
  type AddressMapParts,
  type AddressStretch,
  MAX_INTERVALS,
  MAX_STRETCHES,
  MODE,
} from '../../shared/delta/layer-delta/prediction.ts';
import type { Place } from './address-tables.ts';
import type { ReadRange } from './spool-file.ts';
import { matchTables } from './table-matches.ts';

/** Matches are laid on a grid of this many bytes: where two overlap, the longer one counts. */
const GRID = 16;
/** Shorter matches say little about where code moved, in bytes. */
const MIN_MATCH = 64;
/** Programs smaller than this, in bytes, would not gain what a map costs. */
const MIN_PROGRAM = 32 * 1024;
/** A map that has more intervals than one for so many bytes would cost too much. */
const BYTES_FOR_INTERVAL = 512;

const ELF_MAGIC = 0x464c457f;
/** The modes that suit the code of machines, by their numbers in ELF. */
const CODE_MODES: ReadonlyMap<number, number> = new Map([
  [62, MODE.X86_64],
  [183, MODE.ARM64],
]);
const PT_LOAD = 1;
const PF_X = 1;
const RELOCATABLE = 1;

/** A file, or what is like one, in a temporary file. */
export type FileStretch = {
  readonly read: ReadRange;
  readonly offset: number;
  readonly size: number;
};

/** How a program moved, what of it is alike, and the mode that predicts its code. */
export type MovedProgram = {
  readonly map: AddressMapParts;
  readonly matches: Float64Array;
  readonly codeMode: number;
  /** Where the new one has tables of words. */
  readonly words: readonly Place[];
};

/**
 * How a program moved from one version to the next, from the matches of its bytes (old offset, new
 * offset, length, three numbers each); and these, better in its tables of addresses. Undefined for what
 * is no program of some size, for x86-64 or AArch64.
 */
export function movedProgram(
  old: FileStretch,
  fresh: FileStretch,
  matches: Float64Array,
): MovedProgram | undefined {
  if (old.size < MIN_PROGRAM || fresh.size < MIN_PROGRAM) return undefined;
  const [before, after] = [readProgram(old), readProgram(fresh)];
  if (before === undefined || before.codeMode !== after?.codeMode) return undefined;
  const [source, content, codeMode] = [before.stretches, after.stretches, before.codeMode];
  const mapFrom = (found: Float64Array) => {
    const intervals = intervalsOf(found, old.size);
    const most = Math.min(MAX_INTERVALS, old.size / BYTES_FOR_INTERVAL);
    const isUseful = intervals.starts.length > 0 && intervals.starts.length <= most;
    return isUseful ? { source, content, ...intervals } : undefined;
  };
  const first = mapFrom(matches);
  if (first === undefined) return undefined;
  if (first.starts.length < 2) return { map: first, matches, codeMode, words: [] };
  const better = matchTables(
    { ...old, stretches: source },
    { ...fresh, stretches: content },
    matches,
    new AddressMap(first),
  );
  return { map: mapFrom(better.matches) ?? first, codeMode, ...better };
}

/** One that is loaded, and whether it holds code. */
export type ProgramStretch = AddressStretch & { readonly isCode: boolean };

type Program = {
  readonly codeMode: number;
  /** Not those that are still to be linked, whose operands are to be filled in. */
  readonly isLinked: boolean;
  readonly stretches: ProgramStretch[];
};

/** The PT_LOAD segments of an ELF program (System V ABI, chapter 5). */
export function readProgram({ read, offset, size }: FileStretch): Program | undefined {
  const head = Buffer.alloc(64);
  if (size < head.length) return undefined;
  read(head, offset);
  const codeMode = CODE_MODES.get(head.readUInt16LE(18));
  const isElf64 = head.readUInt32LE(0) === ELF_MAGIC && head[4] === 2 && head[5] === 1;
  if (!isElf64 || codeMode === undefined) return undefined;
  const tableAt = Number(head.readBigUInt64LE(32));
  const entrySize = head.readUInt16LE(54);
  const count = head.readUInt16LE(56);
  const fits = entrySize >= 56 && count > 0 && tableAt + entrySize * count <= size;
  if (!fits || count > 4 * MAX_STRETCHES) return undefined;
  const table = Buffer.alloc(entrySize * count);
  read(table, offset + tableAt);
  const found: Program['stretches'] = [];
  for (let at = 0; at < table.length; at += entrySize) {
    if (table.readUInt32LE(at) !== PT_LOAD) continue;
    const isCode = (table.readUInt32LE(at + 4) & PF_X) !== 0;
    const place = Number(table.readBigUInt64LE(at + 8));
    const address = Number(table.readBigInt64LE(at + 16));
    const length = Number(table.readBigUInt64LE(at + 32));
    if (length === 0) continue;
    if (![place, address, length].every(Number.isSafeInteger)) return undefined;
    if (Math.abs(address) > 2 ** 51 || place + length > size) return undefined;
    found.push({ offset: place, length, address, isCode });
  }
  if (found.length === 0 || found.length > MAX_STRETCHES) return undefined;
  const isLinked = head.readUInt16LE(16) !== RELOCATABLE;
  return { codeMode, isLinked, stretches: found };
}

/** Where each stretch of the old file went; where nothing matches, as what is before it. */
function intervalsOf(matches: Float64Array, size: number) {
  const owners = new Int32Array(Math.ceil(size / GRID)).fill(-1);
  const order = Array.from({ length: matches.length / 3 }, (_, i) => i)
    .filter((i) => (matches[3 * i + 2] ?? 0) >= MIN_MATCH)
    .sort((a, b) => (matches[3 * b + 2] ?? 0) - (matches[3 * a + 2] ?? 0));
  for (const i of order) {
    const start = matches[3 * i] ?? 0;
    const end = start + (matches[3 * i + 2] ?? 0);
    for (let cell = Math.ceil(start / GRID); (cell + 1) * GRID <= end; cell += 1) {
      if (owners[cell] === -1) owners[cell] = i;
    }
  }
  const starts: number[] = [];
  const shifts: number[] = [];
  for (let cell = 0; cell < owners.length; cell += 1) {
    const i = owners[cell] ?? -1;
    if (i < 0) continue;
    const shift = (matches[3 * i + 1] ?? 0) - (matches[3 * i] ?? 0);
    if (shift === shifts.at(-1)) continue;
    starts.push(cell * GRID);
    shifts.push(shift);
  }
  return { starts: Float64Array.from(starts), shifts: Float64Array.from(shifts) };
}
