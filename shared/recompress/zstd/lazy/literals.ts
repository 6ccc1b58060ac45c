import { BitStream } from '../entropy/bit-stream.ts';
import { buildTable, FseState, normalize, optimalTableLog } from '../entropy/fse.ts';
import { describeTable } from '../entropy/fse-header.ts';
import type { HuffmanCodes } from '../entropy/huffman.ts';
import {
  LITERALS_KIND as KIND,
  packedHeader,
  packStreams,
  plainHeader,
} from '../entropy/literals.ts';
import { buildCodes, coversAll, estimateSize } from './huffman-codes.ts';

const MAX_CODE_LENGTH = 11;
/** Fewer literals are not packed. */
const MIN_LITERALS = 64;
const ONE_STREAM_BELOW = 256;
const SAMPLE = 4096;
const SAMPLE_FROM = 10 * SAMPLE;

/** A literals section, and the codes that the next block may use again. */
export type Literals = { readonly section: Uint8Array; readonly codes: HuffmanCodes | undefined };

/**
 * Packs the literals of a block. `previous` are the codes that the decoder holds; `suspicious` says
 * that there are so many literals that a sample is looked at first.
 */
export function packLiterals(
  literals: Uint8Array,
  previous: HuffmanCodes | undefined,
  suspicious: boolean,
): Literals {
  const raw = () => ({
    section: plainSection(KIND.RAW, literals.length, literals),
    codes: previous,
  });
  if (literals.length < MIN_LITERALS) return raw();
  if (suspicious && literals.length >= SAMPLE_FROM && looksRandom(literals)) return raw();
  const { counts, maxSymbol, largest } = count(literals);
  if (largest === literals.length) {
    const section = plainSection(KIND.RLE, literals.length, literals.subarray(0, 1));
    return { section, codes: previous };
  }
  if (largest <= (literals.length >> 7) + 4) return raw();
  const { kind, header, codes } = chooseCodes(literals, counts, maxSymbol, previous);
  if (codes === undefined) return raw();
  const streams = literals.length < ONE_STREAM_BELOW ? 1 : 4;
  const packed = packStreams(literals, codes, streams);
  if (packed === undefined) return raw();
  const gain = (literals.length >> 6) + 2;
  const packedSize = header.length + packed.length;
  if (packedSize >= literals.length - gain) return raw();
  const sizes = packedHeader(kind, formatOf(literals.length, streams), literals.length, packedSize);
  return { section: Buffer.concat([sizes, header, packed]), codes };
}

/** Chooses between new codes, which need a description, and the previous ones. */
function chooseCodes(
  literals: Uint8Array,
  counts: Uint32Array,
  maxSymbol: number,
  previous: HuffmanCodes | undefined,
) {
  const size = literals.length;
  const limit = optimalTableLog(MAX_CODE_LENGTH, size, maxSymbol, 1);
  const fresh = buildCodes(counts, maxSymbol, limit);
  const header = describeCodes(fresh, maxSymbol);
  const none = { kind: KIND.RAW, header: new Uint8Array(0), codes: undefined };
  if (header === undefined) return none;
  if (previous !== undefined && coversAll(previous, counts)) {
    const again = estimateSize(previous, counts);
    const anew = header.length + estimateSize(fresh, counts);
    if (again <= anew || header.length + 12 >= size) {
      return { kind: KIND.REPEAT, header: new Uint8Array(0), codes: previous };
    }
  }
  if (header.length + 12 >= size) return none;
  return { kind: KIND.COMPRESSED, header, codes: fresh };
}

function count(bytes: Uint8Array) {
  const counts = new Uint32Array(256);
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index] as number;
    counts[byte] = (counts[byte] as number) + 1;
  }
  let maxSymbol = 255;
  while (counts[maxSymbol] === 0) maxSymbol--;
  return { counts, maxSymbol, largest: counts.reduce((most, n) => Math.max(most, n), 0) };
}

function looksRandom(literals: Uint8Array): boolean {
  const first = count(literals.subarray(0, SAMPLE)).largest;
  const last = count(literals.subarray(literals.length - SAMPLE)).largest;
  return first + last <= ((2 * SAMPLE) >> 7) + 4;
}

/** The description of Huffman codes by weights (RFC 8878, section 4.2.1). */
function describeCodes(codes: HuffmanCodes, maxSymbol: number): Uint8Array | undefined {
  const weights = new Uint8Array(maxSymbol + 2);
  for (let symbol = 0; symbol < maxSymbol; symbol++) {
    const length = codes.lengths[symbol] as number;
    weights[symbol] = length === 0 ? 0 : codes.maxLength + 1 - length;
  }
  const packed = packWeights(weights.subarray(0, maxSymbol));
  if (packed !== undefined && packed.length > 1 && packed.length < maxSymbol >> 1) {
    return Uint8Array.of(packed.length, ...packed);
  }
  if (maxSymbol > 128) return undefined;
  const pairs = Array.from(
    { length: (maxSymbol + 1) >> 1 },
    (_, pair) => ((weights[2 * pair] as number) << 4) | (weights[2 * pair + 1] as number),
  );
  return Uint8Array.of(127 + maxSymbol, ...pairs);
}

const WEIGHT_TABLE_LOG = 6;

/** Weights packed by two states in turn; undefined where that does not help. */
function packWeights(weights: Uint8Array): Uint8Array | undefined {
  if (weights.length <= 2) return undefined;
  const { counts, maxSymbol, largest } = count(weights);
  if (largest === weights.length || largest === 1) return undefined;
  const tableLog = optimalTableLog(WEIGHT_TABLE_LOG, weights.length, maxSymbol);
  const norm = normalize(counts, maxSymbol, weights.length, tableLog, 1);
  const description = describeTable(norm, tableLog);
  const table = buildTable(norm, tableLog);
  const result = new Uint8Array(description.length + 2 * weights.length + 8);
  result.set(description);
  const stream = new BitStream(result, description.length);
  let at = weights.length;
  const next = () => weights[--at] as number;
  const last = new FseState(table, next());
  const other = new FseState(table, next());
  const states = weights.length % 2 === 1 ? [last, other] : [other, last];
  // The first state has the even places, counted from the start.
  while (at > 0) (states[(at - 1) % 2] as FseState).encode(stream, next());
  states[1]?.flush(stream);
  states[0]?.flush(stream);
  return result.subarray(0, stream.close());
}

function plainSection(kind: number, size: number, bytes: Uint8Array): Uint8Array {
  const format = size > 4095 ? 3 : size > 31 ? 1 : 0;
  return Buffer.concat([plainHeader(kind, format, size), bytes]);
}

/** The smallest format of the header that says the sizes. */
function formatOf(size: number, streams: 1 | 4): number {
  if (size >= 16384) return 3;
  if (size >= 1024) return 2;
  return streams === 4 ? 1 : 0;
}
