import type { Piece, SourceFile } from '../piece.ts';
import { FILTER, MAX_FILTERED, unfilterCode } from './branch-filter.ts';
import { invalidDelta } from './bytes.ts';
import { ContentSettings, type SettingContext } from './content-settings.ts';
import { OPERATION } from './operation-codes.ts';
import { MAX_PREDICTED, MODE } from './prediction.ts';
import { addDifferences, nextRun, type Run } from './runs.ts';
import { sourceMismatch, WindowedReader } from './source-reader.ts';
import type { Source } from './source-table.ts';

/** Unchanged runs of this many bytes come out with their place, so that a writer may share them. */
const SHARE_MIN = 16 * 1024;
const OUTPUT_BYTES = 256 * 1024;
/** Most bytes read at once where differences are added. */
const ADD_BYTES = 64 * 1024;

/** A piece, or what must be waited for before the next step is asked for. */
export type Step = Piece | Promise<void>;

/** What operations need from their reader. */
export type OperationContext = SettingContext & {
  /** Goes on to the next segment. Throws DELTA_INVALID when there is none. */
  readonly nextSegment: () => Promise<void>;
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
  /** Bytes of the content before the present operation. */
  #made = 0;
  #settings: ContentSettings;

  constructor(context: OperationContext) {
    this.#context = context;
    this.#settings = new ContentSettings(context, undefined);
  }

  /**
   * Yields `size` bytes, the last ones perhaps with what follows. `defaultSource` is the first in the
   * table of sources; it is opened when it is used. Throws DELTA_INVALID, DELTA_SOURCE_MISMATCH.
   */
  *run(size: number, defaultSource?: () => SourceFile): Generator<Step, void, void> {
    const settings = new ContentSettings(this.#context, defaultSource);
    this.#settings = settings;
    const { operations, lengths } = this.#context.streams;
    for (let left = size; left > 0; ) {
      if (operations.left === 0) {
        yield this.#context.nextSegment();
        continue;
      }
      const code = operations.byte();
      if (code > OPERATION.LITERAL) {
        const opened = settings.change(code);
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

  /** Carries out an operation whose bytes fit into what is free of the output. */
  #small(code: number, length: number): void {
    if (code === OPERATION.LITERAL) {
      const { literals } = this.#context.streams;
      literals.copyTo(this.#output, this.#filled, length);
      if (this.#settings.filter !== FILTER.NONE) {
        unfilterCode(this.#settings.filter, this.#output, this.#filled, length, this.#made);
      }
      this.#skip(length);
      this.#filled += length;
      return;
    }
    const source = this.#sourceOf(code, length);
    if (code <= OPERATION.ADD_SEEK && this.#settings.mode !== MODE.PLAIN) {
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
    const source = this.#settings.current;
    if (source === undefined) throw invalidDelta('the delta copies before it names a source');
    if (code === OPERATION.ADD_SEEK || code === OPERATION.COPY_SEEK) {
      source.position += this.#context.streams.seeks.signed();
    }
    source.check(length);
    return source;
  }

  *#large(code: number, length: number): Generator<Piece, void, void> {
    if (code === OPERATION.LITERAL) {
      if (this.#settings.filter === FILTER.NONE) {
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
    else if (this.#settings.mode === MODE.PLAIN) yield* this.#add(source, length);
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
    const { current } = this.#settings;
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
    source.map.predict(this.#settings.mode, bytes, old, source.position, this.#made);
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
