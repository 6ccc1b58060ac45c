import {
  DISTANCE_BASE,
  DISTANCE_EXTRA_BITS,
  DISTANCE_SYMBOLS,
  distanceSymbol,
  END_OF_BLOCK,
  LENGTH_BASE,
  LENGTH_EXTRA_BITS,
  LENGTH_SYMBOL,
  LITERAL_SYMBOLS,
} from './alphabets.ts';
import { BitWriter } from './bit-writer.ts';
import { type Codes, fixedCodes, HuffmanTree } from './huffman.ts';

const FIXED_LITERALS = fixedCodes(
  Uint8Array.from({ length: 288 }, (_, symbol) =>
    symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8,
  ),
);
const FIXED_DISTANCES = fixedCodes(new Uint8Array(DISTANCE_SYMBOLS).fill(5));

/** Order in which the lengths of the code length alphabet are sent (RFC 1951, 3.2.7). */
const LENGTH_ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15] as const;
const REPEAT = 16;
const ZEROS_3 = 17;
const ZEROS_11 = 18;
const RUN_EXTRA_BITS = Uint8Array.from({ length: 19 }, (_, symbol) =>
  symbol === REPEAT ? 2 : symbol === ZEROS_3 ? 3 : symbol === ZEROS_11 ? 7 : 0,
);

const BLOCK = { STORED: 0, FIXED: 1, DYNAMIC: 2 } as const;

/** Collects the symbols of one block and writes it in whichever of the three forms is smallest. */
export class BlockWriter {
  readonly out = new BitWriter();
  readonly #capacity: number;
  readonly #values: Uint8Array;
  readonly #distances: Uint16Array;
  #size = 0;
  #matches = 0;
  readonly #literals = new HuffmanTree({
    symbols: LITERAL_SYMBOLS,
    extraBits: LENGTH_EXTRA_BITS,
    extraBase: END_OF_BLOCK + 1,
    maxLength: 15,
    fixed: FIXED_LITERALS,
  });
  readonly #offsets = new HuffmanTree({
    symbols: DISTANCE_SYMBOLS,
    extraBits: DISTANCE_EXTRA_BITS,
    extraBase: 0,
    maxLength: 15,
    fixed: FIXED_DISTANCES,
  });
  readonly #runs = new HuffmanTree({
    symbols: 19,
    extraBits: RUN_EXTRA_BITS,
    extraBase: 0,
    maxLength: 7,
    fixed: undefined,
  });

  /** `capacity` is how many symbols a block may have, less one. */
  constructor(capacity: number) {
    this.#capacity = capacity;
    this.#values = new Uint8Array(capacity);
    this.#distances = new Uint16Array(capacity);
    this.#startBlock();
  }

  /** Forgets all that was written. */
  restart(): void {
    this.out.restart();
    this.#startBlock();
  }

  /** Symbols in the block so far. */
  get size(): number {
    return this.#size;
  }

  /** Adds a literal; true when the block is full. */
  literal(byte: number): boolean {
    const counts = this.#literals.counts;
    this.#distances[this.#size] = 0;
    this.#values[this.#size++] = byte;
    counts[byte] = (counts[byte] as number) + 1;
    return this.#size === this.#capacity - 1;
  }

  /** Adds a match; true when the block is full. */
  match(length: number, distance: number): boolean {
    const literals = this.#literals.counts;
    const offsets = this.#offsets.counts;
    this.#distances[this.#size] = distance;
    this.#values[this.#size++] = length - 3;
    const symbol = END_OF_BLOCK + 1 + (LENGTH_SYMBOL[length - 3] as number);
    literals[symbol] = (literals[symbol] as number) + 1;
    const offset = distanceSymbol(distance - 1);
    offsets[offset] = (offsets[offset] as number) + 1;
    this.#matches++;
    return this.#size === this.#capacity - 1;
  }

  /**
   * GNU gzip's guess whether the block should end here: few matches, and an upper bound for its
   * packed size below half of `inputBytes`.
   */
  looksWellPacked(inputBytes: number): boolean {
    if (this.#matches >= this.#size >> 1) return false;
    const counts = this.#offsets.counts;
    let bits = this.#size * 8;
    for (let symbol = 0; symbol < DISTANCE_SYMBOLS; symbol++) {
      bits += (counts[symbol] as number) * (5 + (DISTANCE_EXTRA_BITS[symbol] as number));
    }
    return Math.floor(bits / 8) < Math.floor(inputBytes / 2);
  }

  /**
   * Writes the block. `input` are its bytes where they are still at hand, else it cannot be stored;
   * `inputBytes` is their number.
   */
  flush(input: Uint8Array | undefined, inputBytes: number, last: boolean): void {
    const literals = this.#literals;
    const offsets = this.#offsets;
    const runs = this.#runs;
    literals.build();
    offsets.build();
    runs.reset();
    walkRuns(literals, countRun(runs));
    walkRuns(offsets, countRun(runs));
    runs.build();
    let lengthCodes = LENGTH_ORDER.length;
    while (lengthCodes > 4 && runs.lengths[LENGTH_ORDER[lengthCodes - 1] as number] === 0) {
      lengthCodes--;
    }
    const bits = literals.bits + offsets.bits + runs.bits + 3 * lengthCodes + 14;
    const dynamicBytes = Math.floor((bits + 10) / 8);
    const fixedBytes = Math.floor((literals.fixedBits + offsets.fixedBits + 10) / 8);
    const fixed = fixedBytes <= dynamicBytes;
    const out = this.out;
    out.reserve(8 * this.#size + 1024);
    if (input !== undefined && inputBytes + 4 <= Math.min(dynamicBytes, fixedBytes)) {
      out.bits((BLOCK.STORED << 1) | Number(last), 3);
      out.stored(input);
    } else if (fixed) {
      out.bits((BLOCK.FIXED << 1) | Number(last), 3);
      this.#writeSymbols(FIXED_LITERALS, FIXED_DISTANCES);
    } else {
      out.bits((BLOCK.DYNAMIC << 1) | Number(last), 3);
      this.#writeTrees(lengthCodes);
      this.#writeSymbols(literals, offsets);
    }
    if (last) out.align();
    this.#startBlock();
  }

  #startBlock(): void {
    this.#literals.reset();
    this.#offsets.reset();
    this.#literals.counts[END_OF_BLOCK] = 1;
    this.#size = 0;
    this.#matches = 0;
  }

  #writeTrees(lengthCodes: number): void {
    const { out } = this;
    out.bits(this.#literals.lastSymbol + 1 - 257, 5);
    out.bits(this.#offsets.lastSymbol, 5);
    out.bits(lengthCodes - 4, 4);
    const { lengths, codes } = this.#runs;
    for (let rank = 0; rank < lengthCodes; rank++) {
      out.bits(lengths[LENGTH_ORDER[rank] as number] as number, 3);
    }
    const send = (symbol: number, extra: number) => {
      out.bits(codes[symbol] as number, lengths[symbol] as number);
      const bits = RUN_EXTRA_BITS[symbol] as number;
      if (bits > 0) out.bits(extra, bits);
    };
    walkRuns(this.#literals, send);
    walkRuns(this.#offsets, send);
  }

  #writeSymbols(literals: Codes, offsets: Codes): void {
    const { out } = this;
    const values = this.#values;
    const distances = this.#distances;
    for (let index = 0; index < this.#size; index++) {
      const value = values[index] as number;
      const distance = distances[index] as number;
      if (distance === 0) {
        out.bits(literals.codes[value] as number, literals.lengths[value] as number);
        continue;
      }
      const length = LENGTH_SYMBOL[value] as number;
      const symbol = END_OF_BLOCK + 1 + length;
      out.bits(literals.codes[symbol] as number, literals.lengths[symbol] as number);
      const lengthExtra = LENGTH_EXTRA_BITS[length] as number;
      if (lengthExtra > 0) out.bits(value - (LENGTH_BASE[length] as number), lengthExtra);
      const offset = distanceSymbol(distance - 1);
      out.bits(offsets.codes[offset] as number, offsets.lengths[offset] as number);
      const extra = DISTANCE_EXTRA_BITS[offset] as number;
      if (extra > 0) out.bits(distance - 1 - (DISTANCE_BASE[offset] as number), extra);
    }
    out.bits(literals.codes[END_OF_BLOCK] as number, literals.lengths[END_OF_BLOCK] as number);
  }
}

function countRun(runs: HuffmanTree): (symbol: number) => void {
  const { counts } = runs;
  return (symbol) => {
    counts[symbol] = (counts[symbol] as number) + 1;
  };
}

type SendLength = (symbol: number, extra: number) => void;

/**
 * Packs the code lengths of a tree as runs (RFC 1951, 3.2.7), in the greedy manner of gzip: a run is
 * cut where the longest repeat ends, and what is too short for a repeat is sent one by one.
 */
function walkRuns(tree: HuffmanTree, send: SendLength): void {
  const { lengths, lastSymbol } = tree;
  let previous = -1;
  for (let index = 0; index <= lastSymbol; ) {
    const length = lengths[index] as number;
    const longest = length === 0 ? 138 : length === previous ? 6 : 7;
    const limit = Math.min(lastSymbol + 1, index + longest);
    let end = index + 1;
    while (end < limit && lengths[end] === length) end++;
    if (length === 0) sendZeros(end - index, send);
    else sendRun(length, end - index, length === previous, send);
    previous = length;
    index = end;
  }
}

function sendZeros(count: number, send: SendLength): void {
  if (count < 3) for (let left = count; left > 0; left--) send(0, 0);
  else if (count <= 10) send(ZEROS_3, count - 3);
  else send(ZEROS_11, count - 11);
}

function sendRun(length: number, count: number, repeats: boolean, send: SendLength): void {
  if (count < (repeats ? 3 : 4)) {
    for (let left = count; left > 0; left--) send(length, 0);
    return;
  }
  if (!repeats) send(length, 0);
  send(REPEAT, repeats ? count - 3 : count - 4);
}
