/** The position of the highest bit that is set; `value` is at least 1. */
export function highBit(value: number): number {
  return 31 - Math.clz32(value);
}

/**
 * Bit streams (RFC 8878, section 4.1): bits are added from the lowest up. In those that are read
 * backwards, a set bit marks the end.
 */
export class BitStream {
  readonly #bytes: Uint8Array;
  #at: number;
  #held = 0;
  #heldBits = 0;

  /** Writes into `bytes` from `start`. */
  constructor(bytes: Uint8Array, start: number) {
    this.#bytes = bytes;
    this.#at = start;
  }

  /** Adds the low `count` bits of `value`, at most 31. */
  add(value: number, count: number): void {
    if (count > 16) {
      this.#addSome(value & 0xffff, 16);
      this.#addSome((value >>> 16) & ((1 << (count - 16)) - 1), count - 16);
    } else {
      this.#addSome(value & ((1 << count) - 1), count);
    }
  }

  #addSome(value: number, count: number): void {
    let held = this.#held | (value << this.#heldBits);
    let heldBits = this.#heldBits + count;
    while (heldBits >= 8) {
      this.#bytes[this.#at++] = held;
      held >>>= 8;
      heldBits -= 8;
    }
    this.#held = held;
    this.#heldBits = heldBits;
  }

  /** Adds the end mark; returns where the next byte after the stream goes. */
  close(): number {
    this.#addSome(1, 1);
    return this.end();
  }

  /** Ends without a mark, as what is read forwards does; returns where the next byte goes. */
  end(): number {
    if (this.#heldBits > 0) this.#bytes[this.#at++] = this.#held;
    return this.#at;
  }
}
