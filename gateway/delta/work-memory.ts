/**
 * Memory that a thread takes once and uses again. Buffers that are given up lie about until V8 collects
 * them, which it does by what its own heap holds: with large ones that is late.
 */
export class WorkMemory {
  #buffer = new ArrayBuffer(0);
  #used = 0;

  /** Bytes that are held. */
  get size(): number {
    return this.#buffer.byteLength;
  }

  /** Makes room for arrays of so many bytes in all; those taken before must not be used any more. */
  begin(bytes: number): void {
    this.#used = 0;
    // Each array starts at a multiple of its elements' size.
    const size = bytes + SLACK;
    if (size <= this.#buffer.byteLength) return;
    this.free();
    this.#buffer = new ArrayBuffer(size);
  }

  /** An array with whatever bytes were there. Throws RangeError beyond the room that was made. */
  bytes(length: number): Buffer<ArrayBuffer> {
    return Buffer.from(this.#buffer, this.#take(length), length);
  }

  numbers(length: number): Int32Array<ArrayBuffer> {
    return new Int32Array(this.#buffer, this.#take(4 * length), length);
  }

  /** Gives the memory back at once. */
  free(): void {
    this.#buffer.transfer(0);
    this.#buffer = new ArrayBuffer(0);
    this.#used = 0;
  }

  #take(bytes: number): number {
    const start = this.#used;
    this.#used = Math.ceil((start + bytes) / ALIGNMENT) * ALIGNMENT;
    return start;
  }
}

const ALIGNMENT = 64;
/** Arrays of one search, each rounded up. */
const SLACK = 8 * ALIGNMENT;
