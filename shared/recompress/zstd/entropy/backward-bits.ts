import { highBit } from './bit-stream.ts';

/** Bits that are read from the end of a stream to its start (RFC 8878, section 4.1). */
export class BackwardBits {
  readonly #bytes: Uint8Array;
  #left: number;

  /** Reads all of `bytes`, whose highest set bit marks the end. Throws a RangeError. */
  constructor(bytes: Uint8Array) {
    const last = bytes[bytes.length - 1] ?? 0;
    if (last === 0) throw damaged();
    this.#bytes = bytes;
    this.#left = 8 * (bytes.length - 1) + highBit(last);
  }

  /** How many bits are left. */
  get left(): number {
    return this.#left;
  }

  /** The next `count` bits, at most 31. Throws a RangeError where fewer are left. */
  read(count: number): number {
    if (count <= 24) return this.#readSome(count);
    const high = this.#readSome(count - 16);
    return (high << 16) | this.#readSome(16);
  }

  #readSome(count: number): number {
    this.#left -= count;
    if (this.#left < 0) throw damaged();
    const at = this.#left >>> 3;
    const bytes = this.#bytes;
    const low = (bytes[at] as number) | ((bytes[at + 1] as number) << 8);
    const high = ((bytes[at + 2] as number) << 16) | ((bytes[at + 3] as number) << 24);
    return ((low | high) >>> (this.#left & 7)) & ((1 << count) - 1);
  }
}

/** What is thrown where compressed data do not hold together. */
export function damaged(): RangeError {
  return new RangeError('zstd data are damaged');
}
