import { crc32 } from 'node:zlib';

/**
 * What the beginning of an xz stream holds, for the simple reader: written from the descriptions of the
 * .xz file format (1.2.1) and of LZMA2, and as slow as it is short.
 */
export function simpleUnxz(packed: Buffer): Buffer {
  const end = 12 + ((packed[12] ?? 0) + 1) * 4;
  if (end > packed.length) throw new Error('xz header is cut off');
  const isIntact = (from: number, to: number) =>
    crc32(packed.subarray(from, to)) === packed.readUInt32LE(to);
  // No check, one filter, no sizes, LZMA2.
  const isKnown = packed.toString('hex', 0, 8) === 'fd377a585a000000' && packed[13] === 0;
  if (!isKnown || packed[14] !== 0x21) throw new Error('xz of another kind');
  if (!isIntact(6, 8) || !isIntact(12, end - 4)) throw new Error('xz header is damaged');
  return new Lzma2(packed, end).run();
}

/** A probability that a bit is 0, of 2048, for each index. */
type Probabilities = Uint16Array;
const probabilities = (count: number): Probabilities => new Uint16Array(count).fill(1024);

class LengthCoder {
  readonly choice = probabilities(2);
  readonly low = probabilities(16 * 8);
  readonly middle = probabilities(16 * 8);
  readonly high = probabilities(256);
}

class Lzma2 {
  readonly #in: Buffer;
  #at: number;
  readonly #out: number[] = [];
  #range = 0;
  #code = 0;
  #lc = 0;
  #lp = 0;
  #pb = 0;
  #state = 0;
  #distances: number[] = [];
  /** Where the dictionary begins. */
  #start = 0;
  #isMatch = probabilities(0);
  #isRep = probabilities(0);
  #isRep0 = probabilities(0);
  #isRep1 = probabilities(0);
  #isRep2 = probabilities(0);
  #isLongRep0 = probabilities(0);
  #slots = probabilities(0);
  #special = probabilities(0);
  #align = probabilities(0);
  #literals = probabilities(0);
  #matchLength = new LengthCoder();
  #repLength = new LengthCoder();

  constructor(bytes: Buffer, at: number) {
    this.#in = bytes;
    this.#at = at;
  }

  run(): Buffer {
    while (this.#at < this.#in.length) {
      const control = this.#byte();
      if (control === 0) throw new Error('the stream ends');
      if (control === 1 || control >= 0xe0) this.#start = this.#out.length;
      if (control < 0x80) this.#stored();
      else this.#packed(control);
    }
    return Buffer.from(this.#out);
  }

  #stored(): void {
    const size = this.#byte() * 256 + this.#byte() + 1;
    for (let i = 0; i < size; i += 1) this.#out.push(this.#byte());
  }

  #packed(control: number): void {
    const size = (control & 31) * 65536 + this.#byte() * 256 + this.#byte() + 1;
    const end = this.#out.length + size;
    const packedEnd = this.#byte() * 256 + this.#byte() + 1 + this.#at + (control >= 0xc0 ? 1 : 0);
    if (control >= 0xc0) {
      const properties = this.#byte();
      this.#lc = properties % 9;
      this.#lp = Math.floor(properties / 9) % 5;
      this.#pb = Math.floor(properties / 45);
    }
    if (control >= 0xa0) this.#reset();
    this.#byte();
    this.#code = 0;
    for (let i = 0; i < 4; i += 1) this.#code = this.#code * 256 + this.#byte();
    this.#range = 2 ** 32 - 1;
    while (this.#out.length < end) this.#token();
    if (this.#out.length !== end || this.#at !== packedEnd) throw new Error('chunk');
  }

  #reset(): void {
    this.#state = 0;
    this.#distances = [0, 0, 0, 0];
    this.#isMatch = probabilities(12 * 16);
    this.#isRep = probabilities(12);
    this.#isRep0 = probabilities(12);
    this.#isRep1 = probabilities(12);
    this.#isRep2 = probabilities(12);
    this.#isLongRep0 = probabilities(12 * 16);
    this.#slots = probabilities(4 * 64);
    this.#special = probabilities(128);
    this.#align = probabilities(16);
    this.#literals = probabilities(0x300 << (this.#lc + this.#lp));
    this.#matchLength = new LengthCoder();
    this.#repLength = new LengthCoder();
  }

  #token(): void {
    const position = this.#out.length - this.#start;
    const place = position & ((1 << this.#pb) - 1);
    const state = this.#state;
    if (this.#bit(this.#isMatch, state * 16 + place) === 0) {
      this.#literal(position);
      this.#state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
      return;
    }
    const isAfterLiteral = state < 7;
    const length =
      this.#bit(this.#isRep, state) === 0
        ? this.#match(place, isAfterLiteral)
        : this.#repetition(place, isAfterLiteral);
    const back = (this.#distances[0] ?? 0) + 1;
    if (back > position) throw new Error('distance');
    for (let i = 0; i < length; i += 1)
      this.#out.push(this.#out[this.#out.length - back] as number);
  }

  #match(place: number, isAfterLiteral: boolean): number {
    const length = this.#length(this.#matchLength, place);
    this.#distances = [this.#distance(length), ...this.#distances.slice(0, 3)];
    this.#state = isAfterLiteral ? 7 : 10;
    return length;
  }

  #repetition(place: number, isAfterLiteral: boolean): number {
    const index = this.#repeated(this.#state);
    if (index === 0 && this.#bit(this.#isLongRep0, this.#state * 16 + place) === 0) {
      this.#state = isAfterLiteral ? 9 : 11;
      return 1;
    }
    const [distance = 0] = this.#distances.splice(index, 1);
    this.#distances.unshift(distance);
    this.#state = isAfterLiteral ? 8 : 11;
    return this.#length(this.#repLength, place);
  }

  #repeated(state: number): number {
    if (this.#bit(this.#isRep0, state) === 0) return 0;
    if (this.#bit(this.#isRep1, state) === 0) return 1;
    return this.#bit(this.#isRep2, state) === 0 ? 2 : 3;
  }

  #literal(position: number): void {
    const before = position > 0 ? (this.#out.at(-1) as number) : 0;
    const context = ((position & ((1 << this.#lp) - 1)) << this.#lc) + (before >> (8 - this.#lc));
    const base = 0x300 * context;
    let symbol = 1;
    if (this.#state >= 7) {
      const matched = this.#out[this.#out.length - 1 - (this.#distances[0] ?? 0)] as number;
      for (let i = 7; i >= 0 && symbol < 256; i -= 1) {
        const expected = (matched >> i) & 1;
        const bit = this.#bit(this.#literals, base + 256 * (1 + expected) + symbol);
        symbol = symbol * 2 + bit;
        if (bit !== expected) break;
      }
    }
    while (symbol < 256) symbol = symbol * 2 + this.#bit(this.#literals, base + symbol);
    this.#out.push(symbol - 256);
  }

  #length(coder: LengthCoder, place: number): number {
    if (this.#bit(coder.choice, 0) === 0) return 2 + this.#tree(coder.low, place * 8, 3);
    if (this.#bit(coder.choice, 1) === 0) return 10 + this.#tree(coder.middle, place * 8, 3);
    return 18 + this.#tree(coder.high, 0, 8);
  }

  #distance(length: number): number {
    const slot = this.#tree(this.#slots, 64 * Math.min(length - 2, 3), 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const base = (2 + (slot & 1)) * 2 ** bits;
    if (slot < 14) return base + this.#reversed(this.#special, base - slot, bits);
    let direct = 0;
    for (let i = 0; i < bits - 4; i += 1) direct = direct * 2 + this.#direct();
    return base + direct * 16 + this.#reversed(this.#align, 0, 4);
  }

  #tree(table: Probabilities, from: number, bits: number): number {
    let symbol = 1;
    for (let i = 0; i < bits; i += 1) symbol = symbol * 2 + this.#bit(table, from + symbol);
    return symbol - (1 << bits);
  }

  #reversed(table: Probabilities, from: number, bits: number): number {
    let symbol = 1;
    let value = 0;
    for (let i = 0; i < bits; i += 1) {
      const bit = this.#bit(table, from + symbol);
      symbol = symbol * 2 + bit;
      value += bit << i;
    }
    return value;
  }

  #bit(table: Probabilities, index: number): number {
    const chance = table[index] as number;
    const bound = Math.floor(this.#range / 2048) * chance;
    const bit = this.#code < bound ? 0 : 1;
    if (bit === 0) {
      this.#range = bound;
      table[index] = chance + ((2048 - chance) >> 5);
    } else {
      this.#range -= bound;
      this.#code -= bound;
      table[index] = chance - (chance >> 5);
    }
    this.#normalize();
    return bit;
  }

  #direct(): number {
    this.#range = Math.floor(this.#range / 2);
    const bit = this.#code >= this.#range ? 1 : 0;
    if (bit === 1) this.#code -= this.#range;
    this.#normalize();
    return bit;
  }

  #normalize(): void {
    if (this.#range >= 2 ** 24) return;
    this.#range *= 256;
    this.#code = this.#code * 256 + this.#byte();
  }

  #byte(): number {
    const byte = this.#in[this.#at];
    if (byte === undefined) throw new Error('xz is cut off');
    this.#at += 1;
    return byte;
  }
}
