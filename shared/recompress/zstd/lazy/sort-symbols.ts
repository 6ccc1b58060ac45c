import { highBit } from '../entropy/bit-stream.ts';

/** Symbols from the most frequent to the rarest, with their counts. */
export type SortedSymbols = {
  readonly size: number;
  readonly symbols: Uint8Array;
  readonly counts: Uint32Array;
};

/** Counts below this have a bucket each; larger ones share one for each power of two. */
const DISTINCT = 165;
const LOG_BUCKETS = 158;
const BUCKETS = 192;
const SMALL = 8;

function bucketOf(count: number): number {
  return count < DISTINCT ? count : highBit(count) + LOG_BUCKETS;
}

/**
 * Sorts symbols as zstd does. Equal counts keep an order that depends on its sorting method, and
 * that order decides which of them get the longer codes.
 */
export function sortByCount(counts: Uint32Array, maxSymbol: number): SortedSymbols {
  const size = maxSymbol + 1;
  const starts = new Uint16Array(BUCKETS + 1);
  for (let symbol = 0; symbol < size; symbol++) {
    const bucket = bucketOf(counts[symbol] as number);
    starts[bucket] = (starts[bucket] as number) + 1;
  }
  // From here each holds how many symbols have its bucket or a higher one.
  for (let bucket = BUCKETS - 1; bucket > 0; bucket--) {
    starts[bucket - 1] = (starts[bucket - 1] as number) + (starts[bucket] as number);
  }
  const ends = starts.slice();
  const sorted = { size, symbols: new Uint8Array(size), counts: new Uint32Array(size) };
  for (let symbol = 0; symbol < size; symbol++) {
    const count = counts[symbol] as number;
    const above = bucketOf(count) + 1;
    const at = ends[above] as number;
    sorted.counts[at] = count;
    sorted.symbols[at] = symbol;
    ends[above] = at + 1;
  }
  for (let bucket = DISTINCT; bucket < BUCKETS - 1; bucket++) {
    const start = starts[bucket] as number;
    const end = ends[bucket] as number;
    if (end - start > 1) quickSort(sorted, start, end - 1);
  }
  return sorted;
}

function swap({ symbols, counts }: SortedSymbols, a: number, b: number): void {
  [symbols[a], symbols[b]] = [symbols[b] as number, symbols[a] as number];
  [counts[a], counts[b]] = [counts[b] as number, counts[a] as number];
}

function insertionSort({ symbols, counts }: SortedSymbols, low: number, high: number): void {
  for (let index = low + 1; index <= high; index++) {
    const count = counts[index] as number;
    const symbol = symbols[index] as number;
    let at = index;
    for (; at > low && (counts[at - 1] as number) < count; at--) {
      counts[at] = counts[at - 1] as number;
      symbols[at] = symbols[at - 1] as number;
    }
    counts[at] = count;
    symbols[at] = symbol;
  }
}

function partition(sorted: SortedSymbols, low: number, high: number): number {
  const pivot = sorted.counts[high] as number;
  let end = low;
  for (let index = low; index < high; index++) {
    if ((sorted.counts[index] as number) > pivot) swap(sorted, end++, index);
  }
  swap(sorted, end, high);
  return end;
}

function quickSort(sorted: SortedSymbols, first: number, last: number): void {
  if (last - first < SMALL) {
    insertionSort(sorted, first, last);
    return;
  }
  let low = first;
  let high = last;
  while (low < high) {
    const middle = partition(sorted, low, high);
    if (middle - low < high - middle) {
      quickSort(sorted, low, middle - 1);
      low = middle + 1;
    } else {
      quickSort(sorted, middle + 1, high);
      high = middle - 1;
    }
  }
}
