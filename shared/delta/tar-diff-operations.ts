import { SnapgateError } from '../errors.ts';
import { addBytes, invalidDelta } from './layer-delta/bytes.ts';
import { readFully, sourceMismatch, WindowedReader } from './layer-delta/source-reader.ts';
import type { Piece, SourceFile, SourceTree } from './piece.ts';
import { OP } from './tar-diff-writer.ts';

/** What is accepted from a tar-diff. */
export type TarDiffLimits = {
  /** Longest path in bytes; the reader of github.com/containers/tar-diff has the same limit. */
  readonly maxPathBytes: number;
  /** Largest ADDDATA in bytes, likewise. */
  readonly maxAddDataBytes: number;
  /** Most bytes of rebuilt tar stream. */
  readonly maxOutputBytes: number;
  /** Base-2 logarithm of the largest window that is unpacked. */
  readonly maxWindowLog: number;
};

const OUTPUT_BYTES = 256 * 1024;
/** Copies of this many bytes, and of whole files, come out with their place. */
const SHARE_MIN = 4096;
/** A number of more bytes than this is none. */
const MAX_SCALE = 2 ** 56;

/**
 * Carries out the operations of a tar-diff. There are hundreds of thousands, most of them of a few
 * bytes, so nothing is awaited between them. Pieces share one buffer, which the next one overwrites.
 */
export class TarDiffOperations {
  readonly #source: SourceTree;
  readonly #limits: TarDiffLimits;
  readonly #window = new WindowedReader();
  readonly #output = Buffer.allocUnsafe(OUTPUT_BYTES);
  #filled = 0;
  #made = 0;
  #file: SourceFile | undefined;
  #position = 0;
  #path: Buffer[] = [];
  /** The present operation; its size as far as it was read, and what is left to do of it. */
  #code: number | undefined;
  #size = 0;
  #scale = 1;
  #left = 0;

  constructor(source: SourceTree, limits: TarDiffLimits) {
    this.#source = source;
    this.#limits = limits;
  }

  /**
   * Takes the next bytes of the unpacked delta. Throws DELTA_INVALID, DELTA_SOURCE_MISMATCH,
   * LIMIT_EXCEEDED.
   */
  *take(chunk: Buffer): Generator<Piece, void, void> {
    for (let at = 0; ; ) {
      if (this.#left === 0) {
        if (at === chunk.length) return;
        this.#begin(chunk[at++] as number);
      } else if (this.#code === OP.COPY) {
        yield* this.#copy(this.#openedFile());
      } else {
        if (at === chunk.length) return;
        if (this.#filled === OUTPUT_BYTES) yield this.#flush();
        at += this.#payload(chunk, at);
      }
    }
  }

  /** What is held back at the end of the delta. Throws DELTA_INVALID when it is cut off. */
  *finish(): Generator<Piece, void, void> {
    if (this.#left > 0 || this.#code !== undefined) throw invalidDelta('the delta is cut off');
    if (this.#filled > 0) yield this.#flush();
  }

  /** Takes a byte of an operation's code and size, and begins the operation when it is the last. */
  #begin(byte: number): void {
    if (this.#code === undefined) {
      this.#code = byte;
      this.#size = 0;
      this.#scale = 1;
      return;
    }
    this.#size += (byte & 0x7f) * this.#scale;
    if (!Number.isSafeInteger(this.#size) || this.#scale > MAX_SCALE) {
      throw invalidDelta('a number in the delta is too large');
    }
    this.#scale *= 0x80;
    if (byte < 0x80) this.#operate(this.#code, this.#size);
  }

  #operate(code: number, size: number): void {
    switch (code) {
      case OP.DATA:
        this.#count(size);
        break;
      case OP.OPEN:
        if (size > this.#limits.maxPathBytes) {
          throw new SnapgateError('LIMIT_EXCEEDED', 'a path is too long');
        }
        this.#path = [];
        if (size === 0) this.#open();
        break;
      case OP.COPY:
        this.#count(size);
        this.#checkRange(size);
        break;
      case OP.ADD_DATA:
        if (size > this.#limits.maxAddDataBytes) {
          throw new SnapgateError('LIMIT_EXCEEDED', 'an ADDDATA operation is too large');
        }
        this.#count(size);
        this.#checkRange(size);
        break;
      case OP.SEEK:
        this.#position = size;
        this.#code = undefined;
        return;
      default:
        throw invalidDelta(`the delta holds the unknown operation ${code}`);
    }
    this.#left = size;
    if (size === 0) this.#code = undefined;
  }

  #count(size: number): void {
    this.#made += size;
    const { maxOutputBytes } = this.#limits;
    if (this.#made <= maxOutputBytes) return;
    throw new SnapgateError('LIMIT_EXCEEDED', 'the delta rebuilds more than it may', {
      hint: `The limit is ${maxOutputBytes} bytes.`,
    });
  }

  #openedFile(): SourceFile {
    if (this.#file === undefined) throw invalidDelta('the delta copies before it opens a file');
    return this.#file;
  }

  #checkRange(size: number): void {
    const file = this.#openedFile();
    if (this.#position + size <= file.size) return;
    throw sourceMismatch('a source file is shorter than the delta needs', file.path);
  }

  /** Takes what `chunk` holds of a payload from `at`, and says how many bytes. */
  #payload(chunk: Buffer, at: number): number {
    const most = Math.min(this.#left, chunk.length - at);
    const count = this.#code === OP.OPEN ? most : Math.min(most, OUTPUT_BYTES - this.#filled);
    const bytes = chunk.subarray(at, at + count);
    if (this.#code === OP.OPEN) this.#path.push(Buffer.from(bytes));
    else if (this.#code === OP.DATA) this.#output.set(bytes, this.#filled);
    else this.#add(bytes);
    if (this.#code !== OP.OPEN) this.#filled += count;
    this.#left -= count;
    if (this.#left > 0) return count;
    if (this.#code === OP.OPEN) this.#open();
    this.#code = undefined;
    return count;
  }

  #add(differences: Uint8Array): void {
    const { length } = differences;
    this.#window.read(this.#openedFile(), this.#output, this.#position, this.#filled, length);
    addBytes(this.#output, this.#filled, differences, 0, length);
    this.#position += length;
  }

  *#copy(file: SourceFile): Generator<Piece, void, void> {
    const isShared = this.#left >= SHARE_MIN || this.#left === file.size;
    if (isShared && this.#filled > 0) yield this.#flush();
    while (this.#left > 0) {
      if (this.#filled === OUTPUT_BYTES) yield this.#flush();
      const count = Math.min(this.#left, OUTPUT_BYTES - this.#filled);
      const bytes = this.#output.subarray(this.#filled, this.#filled + count);
      const offset = this.#position;
      if (isShared) readFully(file, bytes, offset);
      else this.#window.read(file, bytes, offset);
      this.#position += count;
      this.#left -= count;
      if (isShared) yield { bytes, source: { file, offset } };
      else this.#filled += count;
    }
    this.#code = undefined;
  }

  #open(): void {
    const path = Buffer.concat(this.#path).toString('latin1');
    const names = path.split('/');
    if (path.includes('\0') || names.some((name) => name === '' || name === '.' || name === '..')) {
      throw invalidDelta('the delta names a path that is not inside the source tree');
    }
    this.#file = this.#source.open(path);
    this.#position = 0;
  }

  #flush(): Piece {
    const bytes = this.#output.subarray(0, this.#filled);
    this.#filled = 0;
    return { bytes };
  }
}
