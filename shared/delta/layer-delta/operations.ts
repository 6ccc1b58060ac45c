import type { Piece, SourceFile } from '../piece.ts';
import { FILTER, MAX_FILTERED, unfilterCode } from './branch-filter.ts';
import { type ByteReader, invalidDelta } from './bytes.ts';
import type { StreamName } from './header.ts';
import { readAddressMap } from './map-codec.ts';
import { MAX_PREDICTED, MODE } from './prediction.ts';
import { addDifferences, nextRun, type Run } from './runs.ts';
import { sourceMismatch, WindowedReader } from './source-reader.ts';
import { type Source, SourceTable } from './source-table.ts';

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
  FILTER: 11,
} as const;

/** Unchanged runs of this many bytes come out with their place, so that a writer may share them. */
const SHARE_MIN = 16 * 1024;
const OUTPUT_BYTES = 256 * 1024;
/** Most bytes read at once where differences are added. */
const ADD_BYTES = 64 * 1024;

/** A piece, or what must be waited for before the next step is asked for. */
export type Step = Piece | Promise<void>;

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

/**
 * Carries out operations. Pieces share one buffer, which the next piece overwrites. There are very
 * many operations, so nothing is awaited between them unless it must be.
 */
export class Operations {
  readonly #context: OperationContext;
  readonly #output = Buffer.allocUnsafe(OUTPUT_BYTES);
  readonly #window = new WindowedReader();
  readonly #old = Buffer.allocUnsafe(ADD_BYTES);
  #filled = 0;
  #mode: number = MODE.PLAIN;
  #filter: number = FILTER.NONE;
  /** Bytes of the content before the present operation. */
  #made = 0;
  #sources = new SourceTable(undefined);

  constructor(context: OperationContext) {
    this.#context = context;
  }

  /**
   * Yields `size` bytes, the last ones perhaps with what follows. `defaultSource` is the first in the
   * table of sources; it is opened when it is used. Throws DELTA_INVALID, DELTA_SOURCE_MISMATCH.
   */
  *run(size: number, defaultSource?: () => SourceFile): Generator<Step, void, void> {
    this.#sources = new SourceTable(defaultSource);
    this.#mode = MODE.PLAIN;
    this.#filter = FILTER.NONE;
    const { operations, lengths } = this.#context.streams;
    for (let left = size; left > 0; ) {
      if (operations.left === 0) {
        yield this.#context.nextSegment();
        continue;
      }
      const code = operations.byte();
      if (code > OPERATION.LITERAL) {
        const opened = this.#source(code);
        if (opened !== undefined) yield opened;
        continue;
      }
      const length = lengths.number();
      if (length === 0 || length > left) {
        throw invalidDelta('an operation makes more than is wanted, or nothing');
      }
      this.#made = size - left;
      left -= length;
      // Most operations are small, and a generator for each would take more time than they do.
      if (length >= SHARE_MIN) yield* this.#large(code, length);
      else {
        if (OUTPUT_BYTES - this.#filled < length) yield this.#flush();
        this.#small(code, length);
      }
    }
  }

  /** Yields bytes as they are. */
  *put(bytes: Uint8Array): Generator<Piece, void, void> {
    if (OUTPUT_BYTES - this.#filled < bytes.length) yield* this.rest();
    if (bytes.length > OUTPUT_BYTES) {
      yield { bytes };
      return;
    }
    this.#output.set(bytes, this.#filled);
    this.#filled += bytes.length;
  }

  /** Yields what is held back, to come out with what follows. */
  *rest(): Generator<Piece, void, void> {
    if (this.#filled > 0) yield this.#flush();
  }

  /** Yields a whole file, which must have `size` bytes. */
  *whole(file: SourceFile, size: number): Generator<Piece, void, void> {
    if (file.size !== size && !this.#context.isDry) {
      throw sourceMismatch('a source file is of another size than the delta says', file.path);
    }
    yield* this.rest();
    for (let offset = 0; offset < size; ) {
      const bytes = this.#output.subarray(0, Math.min(OUTPUT_BYTES, size - offset));
      this.#window.read(file, bytes, offset);
      yield { bytes, source: { file, offset } };
      offset += bytes.length;
    }
  }

  /** Comes back with what is to be waited for. */
  #source(code: number): Promise<void> | undefined {
    const { commands, text } = this.#context.streams;
    const sources = this.#sources;
    if (code === OPERATION.SWITCH) {
      sources.switchTo(commands.number());
      return undefined;
    }
    if (code === OPERATION.MODE) {
      this.#mode = commands.number();
      if (this.#mode > MODE.ARM64) throw invalidDelta('the delta predicts in an unknown mode');
      return undefined;
    }
    if (code === OPERATION.FILTER) {
      this.#filter = commands.number();
      if (this.#filter > FILTER.X86_64) throw invalidDelta('the delta has an unknown filter');
      return undefined;
    }
    if (code === OPERATION.MAP) {
      if (sources.current === undefined)
        throw invalidDelta('the delta maps before it names a source');
      sources.current.map = readAddressMap(this.#context.streams);
      return undefined;
    }
    sources.checkRoom();
    const { openFile, openEntry, openPart } = this.#context;
    if (code === OPERATION.FILE) sources.add(openFile(readPath(commands, text)), true);
    else if (code === OPERATION.ENTRY_FILE) sources.add(openEntry(commands.signed()), true);
    else if (code === OPERATION.PART) {
      return openPart(commands.number()).then((file) => sources.add(file, false));
    } else throw invalidDelta(`the delta holds the unknown operation ${code}`);
    return undefined;
  }

  /** Carries out an operation whose bytes fit into what is free of the output. */
  #small(code: number, length: number): void {
    if (code === OPERATION.LITERAL) {
      const { literals } = this.#context.streams;
      literals.copyTo(this.#output, this.#filled, length);
      if (this.#filter !== FILTER.NONE) {
        unfilterCode(this.#output, this.#filled, length, this.#made);
      }
      this.#skip(length);
      this.#filled += length;
      return;
    }
    const source = this.#sourceOf(code, length);
    if (code <= OPERATION.ADD_SEEK && this.#mode !== MODE.PLAIN) {
      this.#predicted(source, length);
      return;
    }
    this.#window.read(source.file, this.#output, source.position, this.#filled, length);
    if (code <= OPERATION.ADD_SEEK)
      addDifferences(this.#context.streams, this.#output, this.#filled, length);
    this.#filled += length;
    source.position += length;
  }

  /** The present source, moved to where an operation reads `length` bytes. */
  #sourceOf(code: number, length: number): Source {
    const source = this.#sources.current;
    if (source === undefined) throw invalidDelta('the delta copies before it names a source');
    if (code === OPERATION.ADD_SEEK || code === OPERATION.COPY_SEEK) {
      source.position += this.#context.streams.seeks.signed();
    }
    source.check(length);
    return source;
  }

  *#large(code: number, length: number): Generator<Piece, void, void> {
    if (code === OPERATION.LITERAL) {
      if (this.#filter === FILTER.NONE) {
        yield* this.#literal(length);
        return;
      }
      if (length > MAX_FILTERED) throw invalidDelta('the delta filters too much at once');
      if (OUTPUT_BYTES - this.#filled < length) yield this.#flush();
      this.#small(code, length);
      return;
    }
    const source = this.#sourceOf(code, length);
    if (code > OPERATION.ADD_SEEK) yield* this.#equal(source, length);
    else if (this.#mode === MODE.PLAIN) yield* this.#add(source, length);
    else {
      if (OUTPUT_BYTES - this.#filled < length) yield this.#flush();
      this.#predicted(source, length);
    }
  }

  *#literal(length: number): Generator<Piece, void, void> {
    for (let left = length; left > 0; ) {
      if (this.#filled === OUTPUT_BYTES) yield this.#flush();
      const count = Math.min(left, OUTPUT_BYTES - this.#filled);
      this.#context.streams.literals.copyTo(this.#output, this.#filled, count);
      this.#filled += count;
      left -= count;
    }
    this.#skip(length);
  }

  /** A literal stands for as many bytes of the source. */
  #skip(length: number): void {
    const { current } = this.#sources;
    if (current !== undefined) current.position += length;
  }

  *#add(source: Source, length: number): Generator<Piece, void, void> {
    const run = { equal: 0, differing: 0 };
    for (let left = length; left > 0; ) {
      if (run.equal + run.differing === 0) nextRun(this.#context.streams, run, left);
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
  #predicted(source: Source, length: number): void {
    if (length > MAX_PREDICTED || source.map === undefined) {
      throw invalidDelta('the delta predicts too much at once, or without a map');
    }
    const bytes = this.#output.subarray(this.#filled, this.#filled + length);
    this.#window.read(source.file, bytes, source.position);
    const old = this.#old.subarray(0, length);
    old.set(bytes);
    source.map.predict(this.#mode, bytes, old, source.position, this.#made);
    addDifferences(this.#context.streams, this.#output, this.#filled, length);
    this.#filled += length;
    source.position += length;
  }

  /** Adds runs into what is free of the output, up to a long equal one; says how many bytes. */
  #addRuns(source: Source, run: Run, left: number): number {
    const count = Math.min(left, OUTPUT_BYTES - this.#filled, ADD_BYTES);
    const start = this.#filled;
    this.#window.read(source.file, this.#output, source.position, start, count);
    let at = 0;
    while (at < count) {
      if (run.equal > 0) {
        const part = Math.min(run.equal, count - at);
        run.equal -= part;
        at += part;
      } else if (run.differing > 0) {
        const part = Math.min(run.differing, count - at);
        this.#context.streams.differences.addTo(this.#output, start + at, part);
        run.differing -= part;
        at += part;
      } else {
        nextRun(this.#context.streams, run, left - at);
        if (run.equal >= SHARE_MIN && source.shared) break;
      }
    }
    this.#filled += at;
    source.position += at;
    return at;
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
