import { SnapgateError } from '../../errors.ts';
import type { SourceFile } from '../piece.ts';
import { copyBytes } from './bytes.ts';

const WINDOW = 16 * 1024;
/** How much before what is wanted is read as well, as delta operations jump back and forth. */
const BEHIND = 4 * 1024;

/** The source is not what the delta was made from. */
export function sourceMismatch(message: string, where: string, cause?: unknown): SnapgateError {
  return new SnapgateError('DELTA_SOURCE_MISMATCH', message, {
    where,
    hint: 'The local image differs from the one the delta is for; the full image can be fetched.',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Reads all of `target` from a file. Throws DELTA_SOURCE_MISMATCH when the file ends before. */
export function readFully(file: SourceFile, target: Uint8Array, offset: number): void {
  for (let filled = 0; filled < target.length; ) {
    const count = file.read(target.subarray(filled), offset + filled);
    if (count <= 0) throw sourceMismatch('a source is shorter than the delta needs', file.path);
    filled += count;
  }
}

/** Keeps a stretch of one file in memory, so that many small reads near each other cost few calls. */
export class WindowedReader {
  readonly #window: Uint8Array = new Uint8Array(WINDOW);
  #file: SourceFile | undefined;
  #start = 0;
  #end = 0;

  /** Fills `length` bytes of `target` from `start`; the range from `offset` must lie inside the file. */
  read(
    file: SourceFile,
    target: Uint8Array,
    offset: number,
    start = 0,
    length: number = target.length,
  ): void {
    if (length >= WINDOW / 2) {
      readFully(file, target.subarray(start, start + length), offset);
      return;
    }
    if (this.#file !== file || offset < this.#start || offset + length > this.#end) {
      this.#start = Math.max(0, offset - BEHIND);
      this.#end = Math.min(file.size, this.#start + WINDOW);
      // What a failed read leaves behind is not used.
      this.#file = undefined;
      readFully(file, this.#window.subarray(0, this.#end - this.#start), this.#start);
      this.#file = file;
    }
    copyBytes(target, start, this.#window, offset - this.#start, length);
  }
}
