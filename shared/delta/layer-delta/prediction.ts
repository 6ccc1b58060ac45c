import { type Addresses, predictArm64 } from './arm64-prediction.ts';

/** A stretch of a file and the address that its first byte has when the file is loaded. */
export type AddressStretch = {
  readonly offset: number;
  readonly length: number;
  readonly address: number;
};

/** How a program moved (FORMAT.md section 6.1). */
export type AddressMapParts = {
  readonly source: readonly AddressStretch[];
  readonly content: readonly AddressStretch[];
  /** Starts of intervals of the source, never decreasing, and how far each moved. */
  readonly starts: Float64Array;
  readonly shifts: Float64Array;
};

export const MODE = {
  PLAIN: 0,
  X86_64: 1,
  ADDRESSES: 2,
  ARM64: 3,
  RELATIVE_WORDS: 4,
  ADDRESS_WORDS: 5,
} as const;
/** Longest ADD in a mode other than plain. */
export const MAX_PREDICTED = 65_536;
export const MAX_STRETCHES = 64;
export const MAX_INTERVALS = 262_144;
const MAX_ADDRESS = 2 ** 52;
/** Stands for "none": no address that is looked up is so large. */
const NONE = Number.POSITIVE_INFINITY;

/** Opcodes whose operand may be relative to the instruction pointer. */
const WITH_OPERAND = opcodes(
  '01 03 09 0b 10 11 13 1b 21 23 28 29 2b 2e 2f 31 33 38 39 3a 3b 54 57 58 59 5c 5e 63 69 6b 6f ' +
    '7e 7f 80 81 83 84 85 88 89 8a 8b 8d af b6 b7 be bf c6 c7 d6 db ef f6 f7 ff',
);
const BYTE_FOLLOWS = opcodes('6b 80 83 c6');
const WORD_FOLLOWS = opcodes('69 81 c7');

function opcodes(hex: string): Uint8Array {
  const table = new Uint8Array(256);
  for (const byte of hex.split(' ')) table[Number.parseInt(byte, 16)] = 1;
  return table;
}

/** Predicts the addresses in code and tables that moved. */
export class AddressMap {
  readonly #source: readonly AddressStretch[];
  readonly #content: readonly AddressStretch[];
  readonly #starts: Float64Array;
  readonly #shifts: Float64Array;
  /** Where things were, are, and went. */
  readonly addresses: Addresses = {
    sourceAt: (offset) => addressOf(this.#source, offset),
    contentAt: (offset) => addressOf(this.#content, offset),
    moved: (address) => this.#newAddress(address),
  };

  constructor({ source, content, starts, shifts }: AddressMapParts) {
    this.#source = source;
    this.#content = content;
    this.#starts = starts;
    this.#shifts = shifts;
  }

  /**
   * Turns `bytes`, which stand at `position` in the source, into what is expected at `made` in the
   * content. `old` is a copy of them.
   */
  predict(mode: number, bytes: Buffer, old: Buffer, position: number, made: number): void {
    if (mode === MODE.X86_64) this.#code(bytes, old, position, made);
    else if (mode === MODE.ADDRESSES) this.#addresses(bytes, old, position);
    else if (mode === MODE.ARM64) predictArm64(this.addresses, bytes, old, position, made);
    else if (mode === MODE.RELATIVE_WORDS) this.#words(bytes, old, position, made);
    else if (mode === MODE.ADDRESS_WORDS) this.#words(bytes, old, position, undefined);
  }

  #code(bytes: Buffer, old: Buffer, position: number, made: number): void {
    const n = old.length;
    for (let i = 0; i < n; ) {
      const byte = old[i] as number;
      let at = i + 1;
      let end = 0;
      if (byte === 0xe8 || byte === 0xe9) end = 4;
      else if (byte === 0x0f && ((old[at] ?? 0) & 0xf0) === 0x80) {
        at = i + 2;
        end = 4;
      } else if ((byte & 0xc7) === 0x05 && i > 0) end = operandEnd(old[i - 1] as number, byte);
      else if (byte === 0xc7) {
        at = i + 2;
        end = -1;
      } else if (byte === 0x68 || (byte & 0xf8) === 0xb8) end = -1;
      const isWritten =
        end !== 0 && at + 4 <= n && this.#operand(bytes, old, at, end, position, made);
      i = isWritten ? at + 4 : i + 1;
    }
  }

  /** `end` is from the operand to the end of the instruction, -1 for an absolute address. */
  #operand(
    bytes: Buffer,
    old: Buffer,
    at: number,
    end: number,
    position: number,
    made: number,
  ): boolean {
    const value = old.readInt32LE(at);
    if (end < 0) {
      const fresh = this.#newAddress(value);
      if (fresh === NONE) return false;
      bytes.writeInt32LE(fresh | 0, at);
      return true;
    }
    const from = addressOf(this.#source, position + at);
    const to = addressOf(this.#content, made + at);
    if (from === NONE || to === NONE) return false;
    const target = this.#newAddress(from + end + value);
    if (target === NONE) return false;
    bytes.writeInt32LE((target - end - to) | 0, at);
    return true;
  }

  #addresses(bytes: Buffer, old: Buffer, position: number): void {
    for (let i = (8 - (position % 8)) % 8; i + 8 <= old.length; i += 8) {
      const value = old.readInt32LE(i + 4) * 2 ** 32 + old.readUInt32LE(i);
      const fresh = this.#newAddress(value);
      if (fresh === NONE) continue;
      bytes.writeUInt32LE(fresh >>> 0, i);
      bytes.writeInt32LE(Math.floor(fresh / 2 ** 32), i + 4);
    }
  }

  /** Words are distances from where they stand, unless `made` is undefined. */
  #words(bytes: Buffer, old: Buffer, position: number, made: number | undefined): void {
    for (let i = (4 - (position % 4)) % 4; i + 4 <= old.length; i += 4) {
      const from = made === undefined ? 0 : addressOf(this.#source, position + i);
      const to = made === undefined ? 0 : addressOf(this.#content, made + i);
      if (from === NONE || to === NONE) continue;
      const fresh = this.#newAddress(from + old.readInt32LE(i));
      if (fresh !== NONE) bytes.writeInt32LE((fresh - to) | 0, i);
    }
  }

  #newAddress(address: number): number {
    if (address > MAX_ADDRESS || address < -MAX_ADDRESS) return NONE;
    for (const stretch of this.#source) {
      const offset = address - stretch.address;
      if (offset < 0 || offset >= stretch.length) continue;
      const moved = this.#moved(offset + stretch.offset);
      return moved === NONE ? NONE : addressOf(this.#content, moved);
    }
    return NONE;
  }

  #moved(offset: number): number {
    const starts = this.#starts;
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((starts[middle] as number) <= offset) low = middle + 1;
      else high = middle;
    }
    return low === 0 ? NONE : offset + (this.#shifts[low - 1] as number);
  }
}

function operandEnd(opcode: number, modrm: number): number {
  if (WITH_OPERAND[opcode] === 0) return 0;
  const isTest = (modrm & 0x38) === 0;
  if (BYTE_FOLLOWS[opcode] === 1 || (opcode === 0xf6 && isTest)) return 5;
  if (WORD_FOLLOWS[opcode] === 1 || (opcode === 0xf7 && isTest)) return 8;
  return 4;
}

/** The address of an offset; infinite where it has none. */
export function addressOf(stretches: readonly AddressStretch[], offset: number): number {
  for (const stretch of stretches) {
    const within = offset - stretch.offset;
    if (within >= 0 && within < stretch.length) return stretch.address + within;
  }
  return NONE;
}
