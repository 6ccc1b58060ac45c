import type { Piece, SourceFile } from '../piece.ts';
import { type ByteReader, invalidDelta } from './bytes.ts';
import type { StreamName } from './header.ts';
import { readAddressMap } from './map-codec.ts';
import { type AddressMap, MAX_PREDICTED, MODE } from './prediction.ts';
import { sourceMismatch, WindowedReader } from './source-reader.ts';

/** Operation codes (FORMAT.md section 6). */
export const OPERATION = {
  ADD: 0,
  ADD_SEEK: 1,
  COPY: 2,
  COPY_SEEK: 3,
  LITERAL: 4,
  FILE: 5,
  ENTRY_FILE: 6,
  PART: 7,
  SWITCH: 8,
  MAP: 9,
  MODE: 10,
} as const;

/** Most sources that the content of one entry or part may have. */
export const MAX_SOURCES = 4096;
/** Unchanged runs of this many bytes come out with their place, so that a writer may share them. */
const SHARE_MIN = 16 * 1024;
const OUTPUT_BYTES = 256 * 1024;
/** Most bytes read at once where differences are added. */
const ADD_BYTES = 64 * 1024;

/** What is left of a run of equal bytes and of the run of differing ones after it. */
type Run = { equal: number; differing: number };

/** What operations need from their reader. */
export type OperationContext = {
  readonly streams: Readonly<Record<StreamName, ByteReader>>;
  /** Goes on to the next segment. Throws DELTA_INVALID when there is none. */
  readonly nextSegment: () => Promise<void>;
  readonly openFile: (path: string) => SourceFile;
  /** The file of the source entry at the source pointer plus `distance`. */
  readonly openEntry: (distance: number) => SourceFile;
  readonly openPart: (age: number) => Promise<SourceFile>;
  readonly isDry: boolean;
};

/** A source of the table; the default one is opened when something is read from it. */
class Source {
  readonly shared: boolean;
  readonly #open: () => SourceFile;
  #file: SourceFile | undefined;
  position = 0;
  map: AddressMap | undefined;

  constructor(open: () => SourceFile, shared: boolean) {
    this.#open = open;
    this.shared = shared;
  }

  get file(): SourceFile {
    this.#file ??= this.#open();
    return this.#file;
  }
}

/** Carries out operations. Pieces share one buffer, which the next piece overwrites. */
export class Operations {
  readonly #context: OperationContext;
  readonly #output = Buffer.allocUnsafe(OUTPUT_BYTES);
  readonly #window = new WindowedReader();
  readonly #old = Buffer.allocUnsafe(ADD_BYTES);
  #filled = 0;
  #mode: number = MODE.PLAIN;
  /** Bytes of the content before the present operation. */
  #made = 0;
  #sources: Source[] = [];
  #current: Source | undefined;

  constructor(context: OperationContext) {
    this.#context = context;
  }

  /**
   * Yields `size` bytes. `defaultSource` is the first in the table of sources; it is opened when it
   * is used. Throws DELTA_INVALID, DELTA_SOURCE_MISMATCH.
   */
  async *run(size: number, defaultSource?: () => SourceFile): AsyncGenerator<Piece, void, void> {
    this.#sources = defaultSource === undefined ? [] : [new Source(defaultSource, true)];
    this.#current = this.#sources[0];
    this.#filled = 0;
    this.#mode = MODE.PLAIN;
    const { operations } = this.#context.streams;
    for (let left = size; left > 0; ) {
      if (operations.left === 0) {
        await this.#context.nextSegment();
        continue;
      }
      const code = operations.byte();
      if (code > OPERATION.LITERAL) {
        await this.#source(code);
        continue;
      }
      const length = this.#context.streams.lengths.number();
      if (length === 0 || length > left) {
        throw invalidDelta('an operation makes more than is wanted, or nothing');
      }
      this.#made = size - left;
      if (code === OPERATION.LITERAL) yield* this.#literal(length);
      else yield* this.#copy(code, length);
      left -= length;
    }
    if (this.#filled > 0) yield this.#flush();
  }

  /** Yields a whole file, which must have `size` bytes. */
  *whole(file: SourceFile, size: number): Generator<Piece, void, void> {
    if (file.size !== size && !this.#context.isDry) {
      throw sourceMismatch('a source file is of another size than the delta says', file.path);
    }
    for (let offset = 0; offset < size; ) {
      const bytes = this.#output.subarray(0, Math.min(OUTPUT_BYTES, size - offset));
      this.#window.read(file, bytes, offset);
      yield { bytes, source: { file, offset } };
      offset += bytes.length;
    }
  }

  async #source(code: number): Promise<void> {
    const { commands, text } = this.#context.streams;
    if (code === OPERATION.SWITCH) {
      this.#current = this.#sources[commands.number()];
      if (this.#current === undefined) throw invalidDelta('the delta switches to no source');
      return;
    }
    if (code === OPERATION.MODE) {
      this.#mode = commands.number();
      if (this.#mode > MODE.ADDRESSES) throw invalidDelta('the delta predicts in an unknown mode');
      return;
    }
    if (code === OPERATION.MAP) {
      if (this.#current === undefined)
        throw invalidDelta('the delta maps before it names a source');
      this.#current.map = readAddressMap(this.#context.streams);
      return;
    }
    if (this.#sources.length === MAX_SOURCES) throw invalidDelta('a content has too many sources');
    const add = (file: SourceFile, shared: boolean) => {
      this.#current = new Source(() => file, shared);
      this.#sources.push(this.#current);
    };
    if (code === OPERATION.FILE) add(this.#context.openFile(readPath(commands, text)), true);
    else if (code === OPERATION.ENTRY_FILE) add(this.#context.openEntry(commands.signed()), true);
    else if (code === OPERATION.PART) add(await this.#context.openPart(commands.number()), false);
    else throw invalidDelta(`the delta holds the unknown operation ${code}`);
  }

  *#literal(length: number): Generator<Piece, void, void> {
    const bytes = this.#context.streams.literals.bytes(length);
    for (let at = 0; at < length; ) {
      if (this.#filled === OUTPUT_BYTES) yield this.#flush();
      const part = bytes.subarray(at, at + OUTPUT_BYTES - this.#filled);
      this.#output.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
    }
    if (this.#current !== undefined) this.#current.position += length;
  }

  *#copy(code: number, length: number): Generator<Piece, void, void> {
    const source = this.#current;
    if (source === undefined) throw invalidDelta('the delta copies before it names a source');
    if (code === OPERATION.ADD_SEEK || code === OPERATION.COPY_SEEK) {
      source.position += this.#context.streams.seeks.signed();
    }
    if (source.position < 0 || source.position + length > source.file.size) {
      throw sourceMismatch('a source is shorter than the delta needs', source.file.path);
    }
    if (code === OPERATION.COPY || code === OPERATION.COPY_SEEK) {
      yield* this.#equal(source, length);
    } else if (this.#mode === MODE.PLAIN) yield* this.#add(source, length);
    else yield* this.#predicted(source, length);
  }

  *#add(source: Source, length: number): Generator<Piece, void, void> {
    const run: Run = { equal: 0, differing: 0 };
    for (let left = length; left > 0; ) {
      if (run.equal + run.differing === 0) this.#nextRun(run, left);
      if (run.equal >= SHARE_MIN && source.shared) {
        yield* this.#equal(source, run.equal);
        left -= run.equal;
        run.equal = 0;
        continue;
      }
      if (this.#filled === OUTPUT_BYTES) yield this.#flush();
      left -= this.#addRuns(source, run, left);
    }
  }

  /** Adds differences to what is predicted, all at once. */
  *#predicted(source: Source, length: number): Generator<Piece, void, void> {
    if (length > MAX_PREDICTED || source.map === undefined) {
      throw invalidDelta('the delta predicts too much at once, or without a map');
    }
    if (OUTPUT_BYTES - this.#filled < length) yield this.#flush();
    const bytes = this.#output.subarray(this.#filled, this.#filled + length);
    this.#window.read(source.file, bytes, source.position);
    const old = this.#old.subarray(0, length);
    old.set(bytes);
    source.map.predict(this.#mode, bytes, old, source.position, this.#made);
    const run: Run = { equal: 0, differing: 0 };
    for (let at = 0; at < length; ) {
      this.#nextRun(run, length - at);
      at += run.equal;
      const added = this.#context.streams.differences.bytes(run.differing);
      for (let i = 0; i < added.length; i += 1) {
        bytes[at + i] = (bytes[at + i] as number) + (added[i] as number);
      }
      at += added.length;
      run.differing = 0;
    }
    this.#filled += length;
    source.position += length;
  }

  /** Adds runs into what is free of the output, up to a long equal one; says how many bytes. */
  #addRuns(source: Source, run: Run, left: number): number {
    const count = Math.min(left, OUTPUT_BYTES - this.#filled, ADD_BYTES);
    const bytes = this.#output.subarray(this.#filled, this.#filled + count);
    this.#window.read(source.file, bytes, source.position);
    let at = 0;
    while (at < count) {
      if (run.equal > 0) {
        const part = Math.min(run.equal, count - at);
        run.equal -= part;
        at += part;
      } else if (run.differing > 0) {
        const part = Math.min(run.differing, count - at);
        const added = this.#context.streams.differences.bytes(part);
        for (let i = 0; i < part; i += 1) bytes[at + i] = (bytes[at + i] ?? 0) + (added[i] ?? 0);
        run.differing -= part;
        at += part;
      } else {
        this.#nextRun(run, left - at);
        if (run.equal >= SHARE_MIN && source.shared) break;
      }
    }
    this.#filled += at;
    source.position += at;
    return at;
  }

  #nextRun(run: Run, left: number): void {
    const { runs } = this.#context.streams;
    run.equal = runs.number();
    if (run.equal > left) throw invalidDelta('a run is longer than its operation');
    if (run.equal === left) return;
    run.differing = runs.number();
    if (run.differing === 0 || run.equal + run.differing > left) {
      throw invalidDelta('a run is longer than its operation, or empty');
    }
  }

  *#equal(source: Source, length: number): Generator<Piece, void, void> {
    const { file, shared } = source;
    const isShared = shared && length >= SHARE_MIN;
    if (isShared && this.#filled > 0) yield this.#flush();
    for (let left = length; left > 0; ) {
      if (this.#filled === OUTPUT_BYTES) yield this.#flush();
      const count = Math.min(left, OUTPUT_BYTES - this.#filled);
      const bytes = this.#output.subarray(this.#filled, this.#filled + count);
      this.#window.read(file, bytes, source.position);
      if (isShared) yield { bytes, source: { file, offset: source.position } };
      else this.#filled += count;
      source.position += count;
      left -= count;
    }
  }

  #flush(): Piece {
    const bytes = this.#output.subarray(0, this.#filled);
    this.#filled = 0;
    return { bytes };
  }
}

/** A path of the delta's text: relative, without empty parts, `.` and `..`. */
export function readPath(commands: ByteReader, text: ByteReader): string {
  const length = commands.number();
  if (length === 0 || length > 4096) throw invalidDelta('a path is empty or too long');
  const path = Buffer.from(text.bytes(length)).toString('latin1');
  const parts = path.split('/');
  if (path.includes('\0') || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw invalidDelta('the delta names a path that is not inside the source tree');
  }
  return path;
}
