import { SnapgateError } from '../../errors.ts';
import { BLOCK } from '../../tar/header.ts';
import type { SourceFile } from '../piece.ts';
import { invalidDelta } from './bytes.ts';
import { sourceMismatch, WindowedReader } from './source-reader.ts';
import {
  BLANK_RECORD,
  type EntryFacts,
  entryFacts,
  isExtension,
  MAX_EXTENSION_DATA,
  MAX_EXTENSIONS,
  paddingOf,
  recordType,
  type TarRecord,
} from './tar-records.ts';

/** An entry of a source layer (FORMAT.md section 5.1). */
export type SourceEntry = {
  readonly records: readonly TarRecord[];
  readonly facts: EntryFacts;
  /** The zero or other bytes after its content. */
  readonly padding: Uint8Array;
};

/**
 * The entries of header streams, in order, found as far as they are asked for. An offset of eight
 * bytes is kept for each.
 */
export class SourceEntries {
  readonly #layers: readonly SourceFile[];
  readonly #maxEntries: number;
  readonly #window = new WindowedReader();
  #starts = new Float64Array(1024);
  #known = 0;
  /** First entry of each layer that was begun. */
  readonly #firsts: number[] = [];
  /** Where the next entry of the last begun layer starts; undefined before its layer is begun. */
  #next: number | undefined;
  /** The entry that was found last. */
  #last: SourceEntry | undefined;
  readonly #block = new Uint8Array(BLOCK);

  /** `maxEntries` bounds the memory. */
  constructor(layers: readonly SourceFile[], maxEntries: number) {
    this.#layers = layers;
    this.#maxEntries = maxEntries;
  }

  /** Throws DELTA_INVALID when there is no such entry, DELTA_SOURCE_MISMATCH, LIMIT_EXCEEDED. */
  at(index: number): SourceEntry {
    if (!this.#find(index))
      throw invalidDelta('the delta names a source entry that does not exist');
    // Most entries are asked for once, when they are found.
    if (index === this.#known - 1 && this.#last !== undefined) return this.#last;
    const layer = this.#firsts.findLastIndex((first) => first <= index);
    return this.#read(this.#layers[layer] as SourceFile, this.#starts[index] ?? 0).entry;
  }

  /** Whether the source pointer may be `index`. */
  allows(index: number): boolean {
    return index === 0 || (index > 0 && this.#find(index - 1));
  }

  #find(index: number): boolean {
    if (index < 0) return false;
    while (this.#known <= index) if (!this.#scan()) return false;
    return true;
  }

  /** Finds one more entry. */
  #scan(): boolean {
    for (;;) {
      if (this.#next === undefined) {
        if (this.#firsts.length === this.#layers.length) return false;
        this.#firsts.push(this.#known);
        this.#next = 0;
      }
      const layer = this.#layers[this.#firsts.length - 1] as SourceFile;
      const start = this.#next;
      if (start >= layer.size || this.#isEnd(layer, start)) {
        this.#next = undefined;
        continue;
      }
      const { entry, end } = this.#read(layer, start);
      this.#add(start);
      this.#next = end;
      this.#last = entry;
      return true;
    }
  }

  #add(start: number): void {
    if (this.#known >= this.#maxEntries) {
      throw new SnapgateError('LIMIT_EXCEEDED', 'the source layers have too many entries');
    }
    if (this.#known === this.#starts.length) {
      const grown = new Float64Array(2 * this.#starts.length);
      grown.set(this.#starts);
      this.#starts = grown;
    }
    this.#starts[this.#known++] = start;
  }

  #isEnd(layer: SourceFile, at: number): boolean {
    if (at + BLOCK > layer.size) throw unlike(layer.path);
    this.#window.read(layer, this.#block, at);
    return this.#block.every((byte) => byte === 0);
  }

  #read(layer: SourceFile, start: number): { entry: SourceEntry; end: number } {
    const records: TarRecord[] = [];
    for (let at = start; ; ) {
      const block = this.#bytes(layer, at, BLOCK);
      at += BLOCK;
      if (!isExtension(recordType(block))) {
        records.push({ block, data: BLANK_RECORD.data });
        const facts = entryFacts(records);
        // A layer may end with the content of its last file.
        const padding = this.#bytes(layer, at, Math.min(paddingOf(facts.size), layer.size - at));
        return { entry: { records, facts, padding }, end: at + padding.length };
      }
      // An extension record has the size of its data in its own header block alone.
      const { length, padded } = extensionLength(block, layer.path);
      const data = this.#bytes(layer, at, length);
      at += padded;
      records.push({ block, data });
      if (records.length > MAX_EXTENSIONS) throw unlike(layer.path);
    }
  }

  #bytes(layer: SourceFile, at: number, length: number): Uint8Array {
    if (at + length > layer.size) throw unlike(layer.path);
    const bytes = Buffer.allocUnsafe(length);
    this.#window.read(layer, bytes, at);
    return bytes;
  }
}

function unlike(where: string): SnapgateError {
  return sourceMismatch('the headers of a source layer are not as the delta needs them', where);
}

function extensionLength(block: Uint8Array, where: string): { length: number; padded: number } {
  const digits = Buffer.from(block.subarray(124, 136)).toString('latin1');
  const length = Number.parseInt(/^ *([0-7]+)/.exec(digits)?.[1] ?? '', 8);
  if (!(length <= MAX_EXTENSION_DATA)) throw unlike(where);
  return { length, padded: length + paddingOf(length) };
}
