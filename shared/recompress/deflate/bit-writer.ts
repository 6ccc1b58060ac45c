/** Writes bits, the least significant first, into a buffer that grows (RFC 1951, section 3.1.1). */
export class BitWriter {
  #bytes = new Uint8Array(1 << 16);
  #size = 0;
  #held = 0;
  #heldBits = 0;

  /** Forgets all that was written. */
  restart(): void {
    this.#size = 0;
    this.#held = 0;
    this.#heldBits = 0;
  }

  /** Makes room for `size` more bytes. */
  reserve(size: number): void {
    if (this.#size + size <= this.#bytes.length) return;
    const larger = new Uint8Array(2 * (this.#size + size));
    larger.set(this.#bytes.subarray(0, this.#size));
    this.#bytes = larger;
  }

  /** Adds the low `count` bits (at most 16) of `value`; the room must be reserved. */
  bits(value: number, count: number): void {
    let held = this.#held | (value << this.#heldBits);
    let heldBits = this.#heldBits + count;
    if (heldBits >= 16) {
      const bytes = this.#bytes;
      const at = this.#size;
      bytes[at] = held;
      bytes[at + 1] = held >>> 8;
      this.#size = at + 2;
      held >>>= 16;
      heldBits -= 16;
    }
    this.#held = held;
    this.#heldBits = heldBits;
  }

  /** Fills the byte begun with zero bits. */
  align(): void {
    this.reserve(2);
    for (; this.#heldBits > 0; this.#heldBits -= 8) {
      this.#bytes[this.#size++] = this.#held;
      this.#held >>>= 8;
    }
    this.#held = 0;
    this.#heldBits = 0;
  }

  /** A stored block's lengths and bytes, aligned (RFC 1951, section 3.2.4). */
  stored(input: Uint8Array): void {
    this.align();
    this.reserve(input.length + 4);
    const length = input.length;
    for (const byte of [length, length >>> 8, ~length, ~length >>> 8]) {
      this.#bytes[this.#size++] = byte;
    }
    this.#bytes.set(input, this.#size);
    this.#size += length;
  }

  /** Hands over a copy of the whole bytes written since the last call. */
  take(): Uint8Array {
    const taken = this.#bytes.slice(0, this.#size);
    this.#size = 0;
    return taken;
  }
}
