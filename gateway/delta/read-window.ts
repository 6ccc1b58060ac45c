import type { SourceFile } from '../../shared/delta/piece.ts';
import type { Stretch } from './delta-work.ts';
import type { ReadRange } from './spool-file.ts';

/** Bytes that are read around some of a large stretch, a fourth of them before these. */
const NEAR = 32 * 1024;
const BEHIND_SHARE = 4;
/** Most bytes of a stretch that is read as a whole. */
const WHOLE = 4 * 1024 * 1024;

/**
 * Reads stretches of temporary files a few bytes here and a few there. Asking the system for them takes
 * as long as for some thousands, and operations of deltas jump about: a stretch is read as a whole
 * where it is not large, else with what is near.
 */
export class ReadWindow {
  readonly #near: number;
  readonly #whole: number;
  #buffer = Buffer.alloc(0);
  #read: ReadRange | undefined;
  /** The part of the file that the buffer holds. */
  #start = 0;
  #end = 0;

  constructor(near = NEAR, whole = WHOLE) {
    this.#near = near;
    this.#whole = whole;
  }

  /**
   * The `count` bytes at `at` of a stretch, which must stay as it is, in a buffer that the next call
   * overwrites. Throws what `read` throws.
   */
  bytes(read: ReadRange, stretch: Stretch, at: number, count: number): Buffer {
    const from = stretch.offset + at;
    if (read !== this.#read || from < this.#start || from + count > this.#end) {
      this.#fill(read, stretch, from, count);
    }
    return this.#buffer.subarray(from - this.#start, from - this.#start + count);
  }

  /** A stretch as a file of the source; many small reads of it take few calls. */
  file(path: string, read: ReadRange, stretch: Stretch): SourceFile {
    const { size } = stretch;
    return {
      ...{ path, size },
      read: (target, at) => {
        const count = Math.max(0, Math.min(target.length, size - at));
        if (count > this.#near) read(target.subarray(0, count), stretch.offset + at);
        else if (count > 0) target.set(this.bytes(read, stretch, at, count));
        return count;
      },
    };
  }

  #fill(read: ReadRange, { offset, size }: Stretch, from: number, count: number): void {
    const isWhole = size <= this.#whole;
    const start = isWhole ? offset : Math.max(offset, from - Math.floor(this.#near / BEHIND_SHARE));
    const end = isWhole
      ? offset + size
      : Math.max(from + count, Math.min(offset + size, start + this.#near));
    if (this.#buffer.length < end - start) this.#buffer = Buffer.allocUnsafeSlow(end - start);
    // What a failed read leaves must not be taken for bytes of the file.
    this.#read = undefined;
    read(this.#buffer.subarray(0, end - start), start);
    this.#read = read;
    this.#start = start;
    this.#end = end;
  }
}
