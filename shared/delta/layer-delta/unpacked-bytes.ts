import { invalidDelta } from './bytes.ts';

/** Collects what a stream unpacks to in one segment, in a buffer that the next segment overwrites. */
export class UnpackedBytes {
  #buffer: Uint8Array = new Uint8Array(0);
  #length = 0;
  #filled = 0;

  /** Expects `length` bytes from now on. */
  start(length: number): void {
    if (this.#buffer.length < length) this.#buffer = new Uint8Array(length);
    this.#length = length;
    this.#filled = 0;
  }

  /** Throws DELTA_INVALID when there are more bytes than expected. */
  add(bytes: Uint8Array): void {
    if (this.#filled + bytes.length > this.#length) {
      throw invalidDelta('a stream of the delta unpacks to more bytes than it declares');
    }
    this.#buffer.set(bytes, this.#filled);
    this.#filled += bytes.length;
  }

  /** `isUsedUp` is whether all that was packed was read. Throws DELTA_INVALID for fewer bytes. */
  whole(isUsedUp: boolean): Uint8Array {
    if (this.#filled < this.#length || !isUsedUp) {
      throw invalidDelta('a stream of the delta unpacks to fewer bytes than it declares');
    }
    return this.#buffer.subarray(0, this.#length);
  }
}
