import { MAX_BLOCK } from '../block.ts';
import { BitStream, highBit } from './bit-stream.ts';
import { buildTable, FseState, type FseTable } from './fse.ts';

/** What a block copies: literals, then a match, again and again. */
export type Sequences = {
  size: number;
  readonly literalLengths: Uint32Array;
  /** 1 to 3 for one of the last offsets, else the offset and 3. */
  readonly offsets: Uint32Array;
  /** Less 3. */
  readonly matchLengths: Uint32Array;
};

/** Something of each of the three alphabets that sequences are written in. */
export type PerAlphabet<T> = {
  readonly literalLengths: T;
  readonly offsets: T;
  readonly matchLengths: T;
};

/** Kinds of table (RFC 8878, section 3.1.1.3.2.1). */
export const TABLE_KIND = { PREDEFINED: 0, RLE: 1, COMPRESSED: 2, REPEAT: 3 } as const;

export type Alphabet = {
  readonly maxSymbol: number;
  readonly maxTableLog: number;
  readonly predefinedLog: number;
  readonly predefined: Int16Array;
  readonly predefinedTable: FseTable;
};

function alphabet(
  maxSymbol: number,
  maxTableLog: number,
  predefinedLog: number,
  norm: readonly number[],
): Alphabet {
  const predefined = Int16Array.from(norm);
  const predefinedTable = buildTable(predefined, predefinedLog);
  return { maxSymbol, maxTableLog, predefinedLog, predefined, predefinedTable };
}

const repeat = (value: number, count: number) => Array.from({ length: count }, () => value);

/** RFC 8878, section 3.1.1.3.2.2 and appendix A. */
export const LITERAL_LENGTHS = alphabet(35, 9, 6, [
  ...[4, 3, ...repeat(2, 11), 1, 1, 1, ...repeat(2, 9), 3, 2, ...repeat(1, 5), ...repeat(-1, 4)],
]);
export const OFFSETS = alphabet(31, 8, 5, [
  ...[...repeat(1, 6), 2, 2, 2, ...repeat(1, 15), ...repeat(-1, 5)],
]);
export const MATCH_LENGTHS = alphabet(52, 9, 6, [
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
export const LITERAL_BITS = Uint8Array.of(
  ...[...repeat(0, 16), 1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
);
export const MATCH_BITS = Uint8Array.of(
  ...[...repeat(0, 32), 1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
);

/** The least length of each code. */
function basesOf(bits: Uint8Array): Uint32Array {
  let base = 0;
  return Uint32Array.from(bits, (width) => {
    const start = base;
    base += 2 ** width;
    return start;
  });
}
export const LITERAL_BASES = basesOf(LITERAL_BITS);
export const MATCH_BASES = basesOf(MATCH_BITS);

function literalCode(length: number): number {
  return length > 63 ? highBit(length) + 19 : (LITERAL_CODES[length] as number);
}

function matchCode(length: number): number {
  return length > 127 ? highBit(length) + 36 : (MATCH_CODES[length] as number);
}

/** Most sequences of a block: none copies less than three bytes. */
export const MAX_SEQUENCES = Math.floor(MAX_BLOCK / 3);

/** Room for so many sequences, by default for those of any block. */
export function newSequences(room: number = MAX_SEQUENCES + 1): Sequences {
  return {
    size: 0,
    literalLengths: new Uint32Array(room),
    offsets: new Uint32Array(room),
    matchLengths: new Uint32Array(room),
  };
}

/** The codes of sequences in their alphabets. */
export function sequenceCodes(sequences: Sequences): PerAlphabet<Uint8Array> {
  const { size } = sequences;
  const codes = {
    literalLengths: new Uint8Array(size),
    offsets: new Uint8Array(size),
    matchLengths: new Uint8Array(size),
  };
  for (let i = 0; i < size; i++) {
    codes.literalLengths[i] = literalCode(sequences.literalLengths[i] as number);
    codes.offsets[i] = highBit(sequences.offsets[i] as number);
    codes.matchLengths[i] = matchCode(sequences.matchLengths[i] as number);
  }
  return codes;
}

/** The count at the start of a sequences section (RFC 8878, section 3.1.1.3.2.1). */
export function packSequenceCount(size: number): Uint8Array {
  if (size < 128) return Uint8Array.of(size);
  if (size < 0x7f00) return Uint8Array.of((size >> 8) + 0x80, size);
  return Uint8Array.of(0xff, size - 0x7f00, (size - 0x7f00) >> 8);
}

/** Sequences from the last to the first, as they are read backwards. */
export function encodeSequences(
  sequences: Sequences,
  codes: PerAlphabet<Uint8Array>,
  tables: PerAlphabet<FseTable>,
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
  const matchState = new FseState(tables.matchLengths, codes.matchLengths[last] as number);
  const offsetState = new FseState(tables.offsets, codes.offsets[last] as number);
  const literalState = new FseState(tables.literalLengths, codes.literalLengths[last] as number);
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
