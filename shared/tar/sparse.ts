import { SnapgateError } from '../errors.ts';
import type { SparseRun } from './entry.ts';
import { BLOCK, parseNumber } from './header.ts';
import { type PaxRecords, paxInteger } from './pax.ts';

/** Most runs of one sparse file; GNU tar writes far fewer. */
export const MAX_SPARSE_RUNS = 1_000_000;

/** What pax records say of a sparse file (GNU tar manual, "Storing Sparse Files"). */
export type PaxSparse = {
  readonly name: string | undefined;
  readonly realSize: number;
  /** Undefined for version 1.0, whose map stands before the content. */
  readonly runs: SparseRun[] | undefined;
};

function pairs(numbers: readonly number[]): SparseRun[] {
  const runs: SparseRun[] = [];
  for (let i = 0; i + 1 < numbers.length; i += 2) {
    runs.push({ offset: numbers[i] ?? 0, length: numbers[i + 1] ?? 0 });
  }
  return runs;
}

/** Reads formats 0.0, 0.1 and 1.0; undefined when the records are of no sparse file. */
export function paxSparse(records: PaxRecords): PaxSparse | undefined {
  const map = new Map(records);
  if (![...map.keys()].some((key) => key.startsWith('GNU.sparse.'))) return undefined;
  const integer = (key: string) => {
    const value = map.get(key);
    return value === undefined ? undefined : paxInteger(key, value);
  };
  const realSize = integer('GNU.sparse.realsize') ?? integer('GNU.sparse.size');
  if (realSize === undefined) throw new SnapgateError('TAR_INVALID', 'a sparse file has no size');
  const name = map.get('GNU.sparse.name');
  if (integer('GNU.sparse.major') === 1) return { name, realSize, runs: undefined };
  const text = map.get('GNU.sparse.map');
  const numbers =
    text !== undefined
      ? text.split(',').filter(Boolean)
      : records
          .filter(([key]) => /^GNU\.sparse\.(offset|numbytes)$/.test(key))
          .map(([, value]) => value);
  return {
    name,
    realSize,
    runs: pairs(numbers.map((value) => paxInteger('GNU.sparse.map', value))),
  };
}

/** Runs in an old GNU sparse header (`count` 4) or one of its extension blocks (`count` 21). */
export function gnuSparseRuns(block: Buffer, start: number, count: number): SparseRun[] {
  const runs: SparseRun[] = [];
  for (let i = 0; i < count; i += 1) {
    const at = start + i * 24;
    if (block[at] === 0) break;
    runs.push({ offset: parseNumber(block, at, 12), length: parseNumber(block, at + 12, 12) });
  }
  return runs;
}

/**
 * Parses the map of format 1.0: decimal numbers, each ended by a newline, the first their count,
 * padded to whole blocks. Returns undefined while more blocks are needed. Throws TAR_INVALID.
 */
export function parseSparseMap(blocks: Buffer): SparseRun[] | undefined {
  const lines = blocks.toString('latin1').split('\n');
  const count = lines.length > 1 ? paxInteger('GNU.sparse.map', lines[0] ?? '') : undefined;
  if (count === undefined) {
    if (blocks.length > BLOCK) throw new SnapgateError('TAR_INVALID', 'a sparse map is malformed');
    return undefined;
  }
  if (count < 0 || count > MAX_SPARSE_RUNS) {
    throw new SnapgateError('LIMIT_EXCEEDED', 'a sparse file has too many runs');
  }
  if (lines.length - 1 < 1 + count * 2) return undefined;
  return pairs(lines.slice(1, 1 + count * 2).map((value) => paxInteger('GNU.sparse.map', value)));
}

/** Checks that the runs lie in order inside the file and add up to the stored bytes. Throws TAR_INVALID. */
export function checkSparseRuns(
  runs: readonly SparseRun[],
  stored: number,
  realSize: number,
): void {
  let end = 0;
  let total = 0;
  for (const { offset, length } of runs) {
    if (offset < end || length < 0 || offset + length > realSize) {
      throw new SnapgateError('TAR_INVALID', 'the runs of a sparse file overlap or leave it');
    }
    end = offset + length;
    total += length;
  }
  if (total !== stored) {
    throw new SnapgateError('TAR_INVALID', 'a sparse file stores other bytes than its runs name');
  }
}
