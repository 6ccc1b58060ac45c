import type { SourceFile } from '../piece.ts';
import { invalidDelta } from './bytes.ts';
import type { AddressMap } from './prediction.ts';
import { sourceMismatch } from './source-reader.ts';

/** Most sources that the content of one entry or part may have. */
export const MAX_SOURCES = 4096;

/** A source of the table; the default one is opened when something is read from it. */
export class Source {
  /** Whether what is copied from it has a place that others can read. */
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

  /** Throws DELTA_SOURCE_MISMATCH when it has not `length` more bytes. */
  check(length: number): void {
    if (this.position >= 0 && this.position + length <= this.file.size) return;
    throw sourceMismatch('a source is shorter than the delta needs', this.file.path);
  }
}

/** The sources of the content of one entry or part (FORMAT.md section 6). */
export class SourceTable {
  readonly #sources: Source[];
  /** The one that operations read from. */
  current: Source | undefined;

  constructor(defaultSource: (() => SourceFile) | undefined) {
    this.#sources = defaultSource === undefined ? [] : [new Source(defaultSource, true)];
    this.current = this.#sources[0];
  }

  /** Throws DELTA_INVALID. */
  switchTo(index: number): void {
    this.current = this.#sources[index];
    if (this.current === undefined) throw invalidDelta('the delta switches to no source');
  }

  /** Throws DELTA_INVALID when there are too many. */
  checkRoom(): void {
    if (this.#sources.length < MAX_SOURCES) return;
    throw invalidDelta('a content has too many sources');
  }

  add(file: SourceFile, shared: boolean): void {
    this.current = new Source(() => file, shared);
    this.#sources.push(this.current);
  }
}
