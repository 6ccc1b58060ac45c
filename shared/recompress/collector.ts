/** Collects a stream into pieces of given sizes. */
export class Collector {
  readonly #chunks: Iterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);
  #space = Buffer.alloc(0);

  constructor(chunks: Iterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.iterator]();
  }

  /** The next `size` bytes, or fewer at the end; valid until the next call. */
  take(size: number): Buffer {
    if (this.#space.length < size) this.#space = Buffer.allocUnsafeSlow(size);
    let filled = 0;
    while (filled < size) {
      if (this.#rest.length === 0) {
        const next = this.#chunks.next();
        if (next.done) break;
        this.#rest = next.value;
      }
      const piece = this.#rest.subarray(0, size - filled);
      this.#space.set(piece, filled);
      filled += piece.length;
      this.#rest = this.#rest.subarray(piece.length);
    }
    return this.#space.subarray(0, filled);
  }
}
