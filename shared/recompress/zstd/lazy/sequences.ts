import { BitStream, highBit } from './bit-stream.ts';
import {
  buildTable,
  FseState,
  type FseTable,
  normalize,
  optimalTableLog,
  singleSymbolTable,
  tableCost,
} from './fse.ts';
import { describeTable } from './fse-header.ts';

/** What a block copies: literals, then a match, again and again. */
export type Sequences = {
  size: number;
  readonly literalLengths: Uint32Array;
  /** 1 to 3 for one of the last offsets, else the offset and 3. */
  readonly offsets: Uint32Array;
  /** Less 3. */
  readonly matchLengths: Uint32Array;
};

/** The three alphabets of sequences with the tables that the decoder holds. */
export type SequenceTables = {
  readonly literalLengths: FseTable | undefined;
  readonly offsets: FseTable | undefined;
  readonly matchLengths: FseTable | undefined;
};

export const NO_TABLES: SequenceTables = {
  literalLengths: undefined,
  offsets: undefined,
  matchLengths: undefined,
};

/** Kinds of table (RFC 8878, section 3.1.1.3.2.1). */
const KIND = { PREDEFINED: 0, RLE: 1, COMPRESSED: 2, REPEAT: 3 } as const;

type Alphabet = {
  readonly maxTableLog: number;
  readonly predefinedLog: number;
  readonly predefined: Int16Array;
  readonly predefinedTable: FseTable;
};

function alphabet(maxTableLog: number, predefinedLog: number, norm: readonly number[]): Alphabet {
  const predefined = Int16Array.from(norm);
  const predefinedTable = buildTable(predefined, predefinedLog);
  return { maxTableLog, predefinedLog, predefined, predefinedTable };
}

const repeat = (value: number, count: number) => Array.from({ length: count }, () => value);

/** RFC 8878, section 3.1.1.3.2.2 and appendix A. */
const LITERAL_LENGTHS = alphabet(9, 6, [
  ...[4, 3, ...repeat(2, 11), 1, 1, 1, ...repeat(2, 9), 3, 2, ...repeat(1, 5), ...repeat(-1, 4)],
]);
const OFFSETS = alphabet(8, 5, [...repeat(1, 6), 2, 2, 2, ...repeat(1, 15), ...repeat(-1, 5)]);
const MATCH_LENGTHS = alphabet(9, 6, [
  ...[1, 4, 3, ...repeat(2, 6), ...repeat(1, 37), ...repeat(-1, 7)],
]);

const LITERAL_CODES = Uint8Array.of(
  ...Array.from({ length: 16 }, (_, code) => code),
  ...[16, 16, 17, 17, 18, 18, 19, 19, ...repeat(20, 4), ...repeat(21, 4)],
  ...[...repeat(22, 8), ...repeat(23, 8), ...repeat(24, 16)],
);
const MATCH_CODES = Uint8Array.of(
  ...Array.from({ length: 32 }, (_, code) => code),
  ...[32, 32, 33, 33, 34, 34, 35, 35, ...repeat(36, 4), ...repeat(37, 4)],
  ...[...repeat(38, 8), ...repeat(39, 8), ...repeat(40, 16), ...repeat(41, 16), ...repeat(42, 32)],
);
const LITERAL_BITS = Uint8Array.of(
  ...[...repeat(0, 16), 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
);
const MATCH_BITS = Uint8Array.of(
  ...[...repeat(0, 32), 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
);

function literalCode(length: number): number {
  return length > 63 ? highBit(length) + 19 : (LITERAL_CODES[length] as number);
}

function matchCode(length: number): number {
  return length > 127 ? highBit(length) + 36 : (MATCH_CODES[length] as number);
}

/** Costs of probabilities in 256ths of a bit, by 256ths. */
const COSTS = Uint16Array.from({ length: 256 }, (_, p) =>
  p === 0 ? 0 : Math.floor(-Math.log2(p / 256) * 256),
);

/** A sequences section, and the tables that the next block may use again. */
export type SequenceSection = { readonly section: Uint8Array; readonly tables: SequenceTables };

/**
 * Packs the sequences of a block (RFC 8878, section 3.1.1.3.2). `previous` are the tables that the
 * decoder holds. Undefined where zstd stores the block rather than meet a defect of old decoders.
 */
export function packSequences(
  sequences: Sequences,
  previous: SequenceTables,
): SequenceSection | undefined {
  const { size } = sequences;
  const count = numberOfSequences(size);
  if (size === 0) return { section: count, tables: previous };
  const codes = {
    literalLengths: Uint8Array.from(sequences.literalLengths.subarray(0, size), literalCode),
    offsets: Uint8Array.from(sequences.offsets.subarray(0, size), highBit),
    matchLengths: Uint8Array.from(sequences.matchLengths.subarray(0, size), matchCode),
  };
  const literal = chooseTable(codes.literalLengths, LITERAL_LENGTHS, previous.literalLengths);
  const offset = chooseTable(codes.offsets, OFFSETS, previous.offsets);
  const match = chooseTable(codes.matchLengths, MATCH_LENGTHS, previous.matchLengths);
  const stream = encode(sequences, codes, literal.table, offset.table, match.table);
  const lastDescription = [match, offset, literal].find(
    (choice) => choice.kind === KIND.COMPRESSED,
  );
  if (lastDescription !== undefined && lastDescription.description.length + stream.length < 4) {
    return undefined;
  }
  const kinds = (literal.kind << 6) | (offset.kind << 4) | (match.kind << 2);
  const section = Buffer.concat([
    ...[count, Uint8Array.of(kinds), literal.description, offset.description],
    ...[match.description, stream],
  ]);
  const tables = { literalLengths: literal.kept, offsets: offset.kept, matchLengths: match.kept };
  return { section, tables };
}

function numberOfSequences(size: number): Uint8Array {
  if (size < 128) return Uint8Array.of(size);
  if (size < 0x7f00) return Uint8Array.of((size >> 8) + 0x80, size);
  return Uint8Array.of(0xff, size - 0x7f00, (size - 0x7f00) >> 8);
}

type Choice = {
  readonly kind: number;
  readonly table: FseTable;
  readonly description: Uint8Array;
  /** What may be repeated: predefined tables and single symbols are not. */
  readonly kept: FseTable | undefined;
};

const NOTHING = new Uint8Array(0);

/** The cheapest of the predefined, the previous and a new table. */
function chooseTable(
  codes: Uint8Array,
  { maxTableLog, predefined, predefinedLog, predefinedTable }: Alphabet,
  previous: FseTable | undefined,
): Choice {
  const total = codes.length;
  const counts = new Uint32Array(64);
  for (const code of codes) counts[code] = (counts[code] as number) + 1;
  let maxSymbol = 63;
  while (counts[maxSymbol] === 0) maxSymbol--;
  const allowed = maxSymbol < predefined.length;
  const predefinedChoice = {
    ...{ kind: KIND.PREDEFINED, table: predefinedTable, description: NOTHING, kept: undefined },
  };
  if (counts.includes(total)) {
    if (allowed && total <= 2) return predefinedChoice;
    const table = singleSymbolTable(maxSymbol);
    return { kind: KIND.RLE, table, description: codes.subarray(0, 1), kept: undefined };
  }
  const basic = allowed ? predefinedCost(predefined, predefinedLog, counts, maxSymbol) : Infinity;
  const again = previous === undefined ? Infinity : tableCost(previous, counts, maxSymbol);
  const tableLog = optimalTableLog(maxTableLog, total, maxSymbol);
  const norm = normalize(counts, maxSymbol, total, tableLog, rareShare(total));
  const anew = 8 * describeTable(norm, tableLog).length + entropy(counts, maxSymbol, total);
  if (basic <= again && basic <= anew) return predefinedChoice;
  if (previous !== undefined && again <= anew) {
    return { kind: KIND.REPEAT, table: previous, description: NOTHING, kept: previous };
  }
  return newTable(codes, counts, maxSymbol, tableLog);
}

/** Few sequences: every symbol gets a whole share. */
function rareShare(total: number): -1 | 1 {
  return total >= 2048 ? -1 : 1;
}

function newTable(
  codes: Uint8Array,
  counts: Uint32Array,
  maxSymbol: number,
  tableLog: number,
): Choice {
  // The last symbol costs nothing: it is the state that decoding starts from.
  const last = codes[codes.length - 1] as number;
  const spare = (counts[last] as number) > 1 ? 1 : 0;
  counts[last] = (counts[last] as number) - spare;
  const total = codes.length - spare;
  const norm = normalize(counts, maxSymbol, total, tableLog, rareShare(total));
  const table = buildTable(norm, tableLog);
  return { kind: KIND.COMPRESSED, table, description: describeTable(norm, tableLog), kept: table };
}

function predefinedCost(
  norm: Int16Array,
  tableLog: number,
  counts: Uint32Array,
  maxSymbol: number,
): number {
  let cost = 0;
  for (let symbol = 0; symbol <= maxSymbol; symbol++) {
    const share = Math.abs(norm[symbol] as number) << (8 - tableLog);
    cost += (counts[symbol] as number) * (COSTS[share] as number);
  }
  return Math.floor(cost / 256);
}

function entropy(counts: Uint32Array, maxSymbol: number, total: number): number {
  let cost = 0;
  for (let symbol = 0; symbol <= maxSymbol; symbol++) {
    const count = counts[symbol] as number;
    if (count === 0) continue;
    cost += count * (COSTS[Math.max(1, Math.floor((256 * count) / total))] as number);
  }
  return Math.floor(cost / 256);
}

/** Sequences from the last to the first, as they are read backwards. */
function encode(
  sequences: Sequences,
  codes: Record<keyof SequenceTables, Uint8Array>,
  literalTable: FseTable,
  offsetTable: FseTable,
  matchTable: FseTable,
): Uint8Array {
  const { size, literalLengths, offsets, matchLengths } = sequences;
  const target = new Uint8Array(12 * size + 64);
  const stream = new BitStream(target, 0);
  const last = size - 1;
  const addExtra = (index: number) => {
    const literal = codes.literalLengths[index] as number;
    const match = codes.matchLengths[index] as number;
    stream.add(literalLengths[index] as number, LITERAL_BITS[literal] as number);
    stream.add(matchLengths[index] as number, MATCH_BITS[match] as number);
    stream.add(offsets[index] as number, codes.offsets[index] as number);
  };
  const matchState = new FseState(matchTable, codes.matchLengths[last] as number);
  const offsetState = new FseState(offsetTable, codes.offsets[last] as number);
  const literalState = new FseState(literalTable, codes.literalLengths[last] as number);
  addExtra(last);
  for (let index = last - 1; index >= 0; index--) {
    offsetState.encode(stream, codes.offsets[index] as number);
    matchState.encode(stream, codes.matchLengths[index] as number);
    literalState.encode(stream, codes.literalLengths[index] as number);
    addExtra(index);
  }
  matchState.flush(stream);
  offsetState.flush(stream);
  literalState.flush(stream);
  return target.subarray(0, stream.close());
}
