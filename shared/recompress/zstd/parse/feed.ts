/** Reads so many bytes of a stream, as much ahead as is wanted. */
export class Feed {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #short: () => Error;
  #held: Uint8Array = new Uint8Array(0);
  #at = 0;
  /** Bytes that were not read from the stream yet. */
  #unread: number;

  /** `short` makes what is thrown where more is taken than there is. */
  constructor(stream: AsyncIterable<Uint8Array>, size: number, short: () => Error) {
    this.#chunks = stream[Symbol.asyncIterator]();
    this.#unread = size;
    this.#short = short;
  }

  /** How many bytes are left, read or not. */
  get left(): number {
    return this.#held.length - this.#at + this.#unread;
  }

  /** Reads until `size` bytes are at hand, or all that are left. */
  async want(size: number): Promise<void> {
    let missing = Math.min(size, this.left) - (this.#held.length - this.#at);
    if (missing <= 0) return;
    const pieces = [this.#held.subarray(this.#at)];
    while (missing > 0) {
      const next = await this.#chunks.next();
      if (next.done === true) throw this.#short();
      const bytes = next.value.subarray(0, this.#unread);
      this.#unread -= bytes.length;
      missing -= bytes.length;
      pieces.push(bytes);
    }
    this.#held = Buffer.concat(pieces);
    this.#at = 0;
  }

  /** The next byte at hand. */
  byte(): number {
    const byte = this.#held[this.#at++];
    if (byte === undefined) throw this.#short();
    return byte;
  }

  /** The next `size` bytes at hand. */
  take(size: number): Uint8Array {
    const end = this.#at + size;
    if (end > this.#held.length) throw this.#short();
    const bytes = this.#held.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }

  invalid(): Error {
    return this.#short();
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
