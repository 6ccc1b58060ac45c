import { damaged } from './backward-bits.ts';
import { readDistribution } from './fse-decoder.ts';
import {
  type Alphabet,
  LITERAL_LENGTHS,
  MATCH_LENGTHS,
  OFFSETS,
  type PerAlphabet,
  TABLE_KIND,
} from './sequences.ts';

/** Makes tables of one kind: of a distribution, or of a single symbol. */
export type TableMaker<T> = {
  readonly distribution: (norm: Int16Array, tableLog: number) => T;
  readonly single: (symbol: number) => T;
};

export type Tables<T> = PerAlphabet<T | undefined>;

/**
 * The tables of a sequences section: `kinds` is the byte that says of which kind they are, `bytes`
 * starts with their descriptions (RFC 8878, section 3.1.1.3.2.1), and `previous` are those of the
 * block before. Returns them and how many bytes the descriptions take. Throws a RangeError.
 */
export function readTables<T>(
  kinds: number,
  bytes: Uint8Array,
  previous: Tables<T>,
  make: TableMaker<T>,
): { readonly tables: PerAlphabet<T>; readonly size: number } {
  let size = 0;
  const next = (shift: number, alphabet: Alphabet, before: T | undefined): T => {
    const kind = (kinds >> shift) & 3;
    if (kind === TABLE_KIND.PREDEFINED) {
      return make.distribution(alphabet.predefined, alphabet.predefinedLog);
    }
    if (kind === TABLE_KIND.REPEAT) {
      if (before === undefined) throw damaged();
      return before;
    }
    if (kind === TABLE_KIND.RLE) {
      const symbol = bytes[size++] ?? Infinity;
      if (symbol > alphabet.maxSymbol) throw damaged();
      return make.single(symbol);
    }
    const { maxTableLog, maxSymbol } = alphabet;
    const found = readDistribution(bytes.subarray(size), maxTableLog, maxSymbol);
    size += found.size;
    return make.distribution(found.norm, found.tableLog);
  };
  const literalLengths = next(6, LITERAL_LENGTHS, previous.literalLengths);
  const offsets = next(4, OFFSETS, previous.offsets);
  const matchLengths = next(2, MATCH_LENGTHS, previous.matchLengths);
  return { tables: { literalLengths, offsets, matchLengths }, size };
}
