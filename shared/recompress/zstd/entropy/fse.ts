import { type BitStream, highBit } from './bit-stream.ts';

const MIN_TABLE_LOG = 5;
const MAX_TABLE_LOG = 12;

/** A finite state entropy encoder of one distribution (RFC 8878, section 4.1). */
export type FseTable = {
  readonly tableLog: number;
  readonly maxSymbol: number;
  readonly states: Uint16Array;
  readonly deltaBits: Int32Array;
  readonly deltaStates: Int32Array;
};

/** The accuracy that zstd chooses for `total` symbols; `reserve` is 2, and 1 for Huffman codes. */
export function optimalTableLog(
  most: number,
  total: number,
  maxSymbol: number,
  reserve = 2,
): number {
  const bySize = highBit(total - 1) - reserve;
  const least = Math.min(highBit(total) + 1, highBit(maxSymbol) + 2);
  const tableLog = Math.max(Math.min(most, bySize), least);
  return Math.min(MAX_TABLE_LOG, Math.max(MIN_TABLE_LOG, tableLog));
}

/** How much of a step a small probability must exceed to be rounded up. */
const ROUND_UP = [0n, 473195n, 504333n, 520860n, 550000n, 700000n, 750000n, 830000n] as const;

/**
 * Scales counts to a sum of 2^`tableLog`. Symbols that are too rare for a share get `rare`: -1,
 * which is less than a whole one, or 1.
 */
export function normalize(
  counts: Uint32Array,
  maxSymbol: number,
  total: number,
  tableLog: number,
  rare: -1 | 1,
): Int16Array {
  const norm = new Int16Array(maxSymbol + 1);
  const scale = BigInt(62 - tableLog);
  const step = (1n << 62n) / BigInt(total);
  const unit = 1n << (scale - 20n);
  const low = Math.floor(total / 2 ** tableLog);
  let left = 1 << tableLog;
  let largest = 0;
  let largestShare = 0;
  for (let symbol = 0; symbol <= maxSymbol; symbol++) {
    const count = counts[symbol] as number;
    if (count === 0) continue;
    if (count <= low) {
      norm[symbol] = rare;
      left--;
      continue;
    }
    const exact = BigInt(count) * step;
    let share = Number(exact >> scale);
    if (share < ROUND_UP.length) {
      const rest = exact - (BigInt(share) << scale);
      if (rest > unit * (ROUND_UP[share] as bigint)) share++;
    }
    if (share > largestShare) {
      largestShare = share;
      largest = symbol;
    }
    norm[symbol] = share;
    left -= share;
  }
  const most = norm[largest] as number;
  if (-left >= most >> 1) return normalizeEvenly(counts, maxSymbol, total, tableLog, rare);
  norm[largest] = most + left;
  return norm;
}

/** The second method, for distributions where rounding took too much from the largest. */
function normalizeEvenly(
  counts: Uint32Array,
  maxSymbol: number,
  all: number,
  tableLog: number,
  rare: -1 | 1,
): Int16Array {
  const norm = new Int16Array(maxSymbol + 1).fill(-2);
  const low = Math.floor(all / 2 ** tableLog);
  let one = Math.floor((all * 3) / 2 ** (tableLog + 1));
  let total = all;
  let distributed = 0;
  const give = (symbol: number, share: number) => {
    norm[symbol] = share;
    distributed++;
    total -= counts[symbol] as number;
  };
  for (let symbol = 0; symbol <= maxSymbol; symbol++) {
    const count = counts[symbol] as number;
    if (count === 0) norm[symbol] = 0;
    else if (count <= low) give(symbol, rare);
    else if (count <= one) give(symbol, 1);
  }
  let left = (1 << tableLog) - distributed;
  if (left === 0) return norm;
  if (Math.floor(total / left) > one) {
    one = Math.floor((total * 3) / (left * 2));
    for (let symbol = 0; symbol <= maxSymbol; symbol++) {
      if (norm[symbol] === -2 && (counts[symbol] as number) <= one) give(symbol, 1);
    }
    left = (1 << tableLog) - distributed;
  }
  if (distributed === maxSymbol + 1) giveAllToLargest(norm, counts, left);
  else if (total === 0) giveInTurn(norm, left);
  else giveInProportion(norm, counts, total, left, tableLog);
  return norm;
}

function giveAllToLargest(norm: Int16Array, counts: Uint32Array, left: number): void {
  let largest = 0;
  for (let symbol = 1; symbol < norm.length; symbol++) {
    if ((counts[symbol] as number) > (counts[largest] as number)) largest = symbol;
  }
  norm[largest] = (norm[largest] as number) + left;
}

function giveInTurn(norm: Int16Array, count: number): void {
  for (let symbol = 0, left = count; left > 0; symbol = (symbol + 1) % norm.length) {
    const share = norm[symbol] as number;
    if (share <= 0) continue;
    norm[symbol] = share + 1;
    left--;
  }
}

function giveInProportion(
  norm: Int16Array,
  counts: Uint32Array,
  total: number,
  left: number,
  tableLog: number,
): void {
  const stepLog = BigInt(62 - tableLog);
  const middle = (1n << (stepLog - 1n)) - 1n;
  const step = ((1n << stepLog) * BigInt(left) + middle) / BigInt(total);
  let sum = middle;
  for (let symbol = 0; symbol < norm.length; symbol++) {
    if (norm[symbol] !== -2) continue;
    const end = sum + BigInt(counts[symbol] as number) * step;
    norm[symbol] = Number((end >> stepLog) - (sum >> stepLog));
    sum = end;
  }
}

/** Builds the encoder of a normalized distribution. */
export function buildTable(norm: Int16Array, tableLog: number): FseTable {
  const size = 1 << tableLog;
  const symbols = spread(norm, size);
  const next = new Uint16Array(norm.length);
  const deltaBits = new Int32Array(norm.length);
  const deltaStates = new Int32Array(norm.length);
  let total = 0;
  for (let symbol = 0; symbol < norm.length; symbol++) {
    const share = norm[symbol] as number;
    next[symbol] = total;
    if (share === 0) {
      deltaBits[symbol] = ((tableLog + 1) << 16) - size;
    } else if (share === 1 || share === -1) {
      deltaBits[symbol] = (tableLog << 16) - size;
      deltaStates[symbol] = total - 1;
      total++;
    } else {
      const bits = tableLog - highBit(share - 1);
      deltaBits[symbol] = (bits << 16) - (share << bits);
      deltaStates[symbol] = total - share;
      total += share;
    }
  }
  const states = new Uint16Array(size);
  for (let state = 0; state < size; state++) {
    const symbol = symbols[state] as number;
    const at = next[symbol] as number;
    states[at] = size + state;
    next[symbol] = at + 1;
  }
  return { tableLog, maxSymbol: norm.length - 1, states, deltaBits, deltaStates };
}

/** Deals symbols out over the states; those with less than a whole share come last. */
export function spread(norm: Int16Array, size: number): Uint8Array {
  const symbols = new Uint8Array(size);
  let high = size - 1;
  for (let symbol = 0; symbol < norm.length; symbol++) {
    if (norm[symbol] === -1) symbols[high--] = symbol;
  }
  const step = (size >> 1) + (size >> 3) + 3;
  let position = 0;
  for (let symbol = 0; symbol < norm.length; symbol++) {
    for (let left = norm[symbol] as number; left > 0; left--) {
      symbols[position] = symbol;
      do position = (position + step) & (size - 1);
      while (position > high);
    }
  }
  return symbols;
}

/** The encoder of a distribution that has one symbol only: it takes no bits. */
export function singleSymbolTable(symbol: number): FseTable {
  return {
    tableLog: 0,
    maxSymbol: symbol,
    states: new Uint16Array(2),
    deltaBits: new Int32Array(symbol + 1),
    deltaStates: new Int32Array(symbol + 1),
  };
}

/** Bits that counted symbols take with a table; infinite where it lacks one of them. */
export function tableCost(table: FseTable, counts: Uint32Array, maxSymbol: number): number {
  const { tableLog } = table;
  if (table.maxSymbol < maxSymbol) return Infinity;
  let cost = 0;
  for (let symbol = 0; symbol <= maxSymbol; symbol++) {
    const count = counts[symbol] as number;
    if (count === 0) continue;
    const delta = table.deltaBits[symbol] as number;
    const bits = (delta >> 16) + 1;
    const below = (bits << 16) - (delta + (1 << tableLog));
    const each = bits * 256 - ((below << 8) >> tableLog);
    if (each >= (tableLog + 1) << 8) return Infinity;
    cost += count * each;
  }
  return Math.floor(cost / 256);
}

/** The state of one encoder. */
export class FseState {
  readonly #table: FseTable;
  #value: number;

  /** Starts with the symbol that is to be decoded last. */
  constructor(table: FseTable, symbol: number) {
    const delta = table.deltaBits[symbol] as number;
    const bits = (delta + (1 << 15)) >> 16;
    const value = (bits << 16) - delta;
    this.#table = table;
    this.#value = table.states[(value >> bits) + (table.deltaStates[symbol] as number)] as number;
  }

  encode(stream: BitStream, symbol: number): void {
    const { states, deltaBits, deltaStates } = this.#table;
    const bits = (this.#value + (deltaBits[symbol] as number)) >> 16;
    stream.add(this.#value, bits);
    this.#value = states[(this.#value >> bits) + (deltaStates[symbol] as number)] as number;
  }

  flush(stream: BitStream): void {
    stream.add(this.#value, this.#table.tableLog);
  }
}
