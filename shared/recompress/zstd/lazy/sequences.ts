import {
  buildTable,
  type FseTable,
  normalize,
  optimalTableLog,
  singleSymbolTable,
  tableCost,
} from '../entropy/fse.ts';
import { describeTable } from '../entropy/fse-header.ts';
import {
  type Alphabet,
  encodeSequences,
  TABLE_KIND as KIND,
  LITERAL_LENGTHS,
  MATCH_LENGTHS,
  OFFSETS,
  type PerAlphabet,
  packSequenceCount,
  type Sequences,
  sequenceCodes,
} from '../entropy/sequences.ts';

/** The three alphabets of sequences with the tables that the decoder holds. */
export type SequenceTables = PerAlphabet<FseTable | undefined>;

export const NO_TABLES: SequenceTables = {
  literalLengths: undefined,
  offsets: undefined,
  matchLengths: undefined,
};

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
  const count = packSequenceCount(size);
  if (size === 0) return { section: count, tables: previous };
  const codes = sequenceCodes(sequences);
  const literal = chooseTable(codes.literalLengths, LITERAL_LENGTHS, previous.literalLengths);
  const offset = chooseTable(codes.offsets, OFFSETS, previous.offsets);
  const match = chooseTable(codes.matchLengths, MATCH_LENGTHS, previous.matchLengths);
  const stream = encodeSequences(sequences, codes, {
    literalLengths: literal.table,
    offsets: offset.table,
    matchLengths: match.table,
  });
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
