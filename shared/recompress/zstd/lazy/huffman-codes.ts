import { highBit } from '../entropy/bit-stream.ts';
import { assignCodes, type HuffmanCodes } from '../entropy/huffman.ts';
import { type SortedSymbols, sortByCount } from './sort-symbols.ts';

const NONE = -1;
const LONGEST = 12;

/**
 * The codes that zstd makes of counts of the bytes up to `maxSymbol`, at most `limit` bits long. At
 * least two bytes must occur.
 */
export function buildCodes(counts: Uint32Array, maxSymbol: number, limit: number): HuffmanCodes {
  const sorted = sortByCount(counts, maxSymbol);
  const last = lastCounted(sorted);
  const bits = treeDepths(sorted, last);
  const maxLength = limitDepths(sorted, bits, last, limit);
  const lengths = new Uint8Array(256);
  for (let rank = 0; rank <= last; rank++) {
    lengths[sorted.symbols[rank] as number] = bits[rank] as number;
  }
  return assignCodes(lengths, maxLength);
}

function lastCounted({ counts, size }: SortedSymbols): number {
  let last = size - 1;
  while (counts[last] === 0) last--;
  return last;
}

/**
 * Depths of the sorted symbols in a Huffman tree. Among equals a joined node comes before a symbol.
 */
function treeDepths({ counts }: SortedSymbols, last: number): Uint8Array {
  const joined = new Float64Array(last);
  const symbolParents = new Uint16Array(last + 1);
  const joinedParents = new Uint16Array(last);
  let symbol = last;
  let node = 0;
  for (let parent = 0; parent < last; parent++) {
    let sum = 0;
    for (let side = 0; side < 2; side++) {
      const symbolCount = symbol >= 0 ? (counts[symbol] as number) : Infinity;
      const nodeCount = node < parent ? (joined[node] as number) : Number.MAX_VALUE;
      if (symbolCount < nodeCount) {
        sum += symbolCount;
        symbolParents[symbol--] = parent;
      } else {
        sum += nodeCount;
        joinedParents[node++] = parent;
      }
    }
    joined[parent] = sum;
  }
  const joinedDepths = new Uint8Array(last);
  for (let index = last - 2; index >= 0; index--) {
    joinedDepths[index] = (joinedDepths[joinedParents[index] as number] as number) + 1;
  }
  return Uint8Array.from(symbolParents, (parent) => (joinedDepths[parent] as number) + 1);
}

/** Shortens codes to `limit` bits in zstd's way; returns the longest length. */
function limitDepths(
  { counts }: SortedSymbols,
  bits: Uint8Array,
  last: number,
  limit: number,
): number {
  const largest = bits[last] as number;
  if (largest <= limit) return largest;
  let cost = 0;
  let rank = last;
  for (; (bits[rank] as number) > limit; rank--) {
    cost += (1 << (largest - limit)) - (1 << (largest - (bits[rank] as number)));
    bits[rank] = limit;
  }
  while (bits[rank] === limit) rank--;
  cost >>= largest - limit;
  const lasts = lastOfEachLength(bits, rank, limit);
  cost = lengthen(counts, bits, lasts, cost, limit);
  giveBack(bits, lasts, rank, cost, limit);
  return limit;
}

/** By how much shorter than `limit`: the rank of the rarest symbol of that length. */
function lastOfEachLength(bits: Uint8Array, from: number, limit: number): Int32Array {
  const lasts = new Int32Array(LONGEST + 2).fill(NONE);
  let current = limit;
  for (let rank = from; rank >= 0; rank--) {
    const length = bits[rank] as number;
    if (length >= current) continue;
    current = length;
    lasts[limit - current] = rank;
  }
  return lasts;
}

/** Lengthens shorter codes until the cost is paid; returns what is left, 0 or less. */
function lengthen(
  counts: Uint32Array,
  bits: Uint8Array,
  lasts: Int32Array,
  debt: number,
  limit: number,
): number {
  let cost = debt;
  while (cost > 0) {
    const step = lengthToChange(counts, lasts, cost);
    const rank = lasts[step] as number;
    cost -= 1 << (step - 1);
    bits[rank] = (bits[rank] as number) + 1;
    if (lasts[step - 1] === NONE) lasts[step - 1] = rank;
    lasts[step] = rank > 0 && bits[rank - 1] === limit - step ? rank - 1 : NONE;
  }
  return cost;
}

function lengthToChange(counts: Uint32Array, lasts: Int32Array, cost: number): number {
  let step = highBit(cost) + 1;
  for (; step > 1; step--) {
    const high = lasts[step] as number;
    const low = lasts[step - 1] as number;
    if (high === NONE) continue;
    if (low === NONE || (counts[high] as number) <= 2 * (counts[low] as number)) break;
  }
  while (step <= LONGEST && lasts[step] === NONE) step++;
  return step;
}

/** Shortens codes again where too much was paid. */
function giveBack(
  bits: Uint8Array,
  lasts: Int32Array,
  from: number,
  credit: number,
  limit: number,
): void {
  let rank = from;
  for (let cost = credit; cost < 0; cost++) {
    let next = (lasts[1] as number) + 1;
    if (lasts[1] === NONE) {
      while (bits[rank] === limit) rank--;
      next = rank + 1;
    }
    bits[next] = (bits[next] as number) - 1;
    lasts[1] = next;
  }
}

/** Bytes that counted symbols take with codes, without any header. */
export function estimateSize(codes: HuffmanCodes, counts: Uint32Array): number {
  let bits = 0;
  for (let symbol = 0; symbol < 256; symbol++) {
    bits += (codes.lengths[symbol] as number) * (counts[symbol] as number);
  }
  return Math.floor(bits / 8);
}

/** Whether all symbols that occur have a code. */
export function coversAll(codes: HuffmanCodes, counts: Uint32Array): boolean {
  return counts.every((count, symbol) => count === 0 || codes.lengths[symbol] !== 0);
}
