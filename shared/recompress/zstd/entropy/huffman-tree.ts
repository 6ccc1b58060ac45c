import { BackwardBits, damaged } from './backward-bits.ts';
import { highBit } from './bit-stream.ts';
import { buildDecoder, readDistribution } from './fse-decoder.ts';
import { assignCodes, type HuffmanCodes } from './huffman.ts';

const MAX_LENGTH = 11;
const MAX_SYMBOLS = 256;
const MAX_WEIGHT_LOG = 6;

/** How many bytes a description of Huffman codes takes, by its first one. */
export function treeSize(first: number): number {
  return 1 + (first < 128 ? first : (first - 126) >> 1);
}

/** The codes that a description gives (RFC 8878, section 4.2.1). Throws a RangeError. */
export function readTree(bytes: Uint8Array): HuffmanCodes {
  const first = bytes[0] ?? 0;
  if (bytes.length !== treeSize(first)) throw damaged();
  const weights = first < 128 ? packedWeights(bytes.subarray(1)) : plainWeights(bytes, first - 127);
  let sum = 0;
  for (const weight of weights) sum += weight === 0 ? 0 : 1 << (weight - 1);
  if (sum === 0) throw damaged();
  // The last weight is what is missing to a power of two.
  const maxLength = highBit(sum) + 1;
  const rest = (1 << maxLength) - sum;
  if (maxLength > MAX_LENGTH || rest !== 1 << highBit(rest)) throw damaged();
  const lengths = new Uint8Array(MAX_SYMBOLS);
  for (const [symbol, weight] of [...weights, highBit(rest) + 1].entries()) {
    if (weight > 0) lengths[symbol] = maxLength + 1 - weight;
  }
  return assignCodes(lengths, maxLength);
}

function plainWeights(bytes: Uint8Array, count: number): number[] {
  return Array.from({ length: count }, (_, index) => {
    const pair = bytes[1 + (index >> 1)] as number;
    return index % 2 === 0 ? pair >> 4 : pair & 15;
  });
}

/** Weights by two states in turn, until the bits are used up. */
function packedWeights(bytes: Uint8Array): number[] {
  const { norm, tableLog, size } = readDistribution(bytes, MAX_WEIGHT_LOG, MAX_LENGTH + 1);
  const table = buildDecoder(norm, tableLog);
  const bits = new BackwardBits(bytes.subarray(size));
  const states = [bits.read(tableLog), bits.read(tableLog)];
  const weights: number[] = [];
  for (let turn = 0; weights.length < MAX_SYMBOLS; turn = 1 - turn) {
    const state = states[turn] as number;
    weights.push(table.symbols[state] as number);
    const width = table.bits[state] as number;
    if (width > bits.left) {
      weights.push(table.symbols[states[1 - turn] as number] as number);
      break;
    }
    states[turn] = (table.bases[state] as number) + bits.read(width);
  }
  if (weights.length >= MAX_SYMBOLS) throw damaged();
  return weights;
}
