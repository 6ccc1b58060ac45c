import { FILTER, filterCode } from './branch-filter.ts';
import { ByteWriter } from './bytes.ts';
import { writeAddressMap } from './map-codec.ts';
import { OPERATION } from './operation-codes.ts';
import { type AddressMapParts, MODE } from './prediction.ts';

/** Operations of a content with their bytes by stream; goes into one segment. */
export type ContentChunk = {
  readonly operations: Uint8Array<ArrayBuffer>;
  readonly lengths: Uint8Array<ArrayBuffer>;
  readonly seeks: Uint8Array<ArrayBuffer>;
  readonly runs: Uint8Array<ArrayBuffer>;
  readonly differences: Uint8Array<ArrayBuffer>;
  readonly literals: Uint8Array<ArrayBuffer>;
  /** Numbers of sources that are switched to, maps, modes, filters. */
  readonly commands: Uint8Array<ArrayBuffer>;
};

/** A chunk is closed when it has this many bytes; it has at most twice as many. */
export const CHUNK_BYTES = 256 * 1024;
/** Longest run of literals or added bytes in one operation. */
const PIECE_BYTES = CHUNK_BYTES / 4;

/**
 * Writes the operations of one content. Sources are given by their place in the content's table,
 * which whoever puts the delta together fills before the first operation.
 */
export class ContentWriter {
  readonly #streams = {
    ...{ operations: new ByteWriter(), lengths: new ByteWriter(), seeks: new ByteWriter() },
    ...{ runs: new ByteWriter(), differences: new ByteWriter(), literals: new ByteWriter() },
    commands: new ByteWriter(),
  };
  #chunks: ContentChunk[] = [];
  readonly #positions: number[];
  #current: number | undefined;
  #mode: number = MODE.PLAIN;
  #filter: number = FILTER.NONE;

  /** `current` is the last source of a table of `sources`, or undefined when there is none. */
  constructor(sources: number) {
    this.#positions = new Array<number>(sources).fill(0);
    this.#current = sources === 0 ? undefined : sources - 1;
  }

  /** `length` bytes of a source as they are. */
  copy(source: number, offset: number, length: number): void {
    if (length === 0) return;
    this.#place(source, offset, OPERATION.COPY, length);
    this.#closeFull();
  }

  /** `fresh` as what differs from `old`, which stands in a source at `offset` and is as long. */
  add(source: number, offset: number, old: Uint8Array, fresh: Uint8Array): void {
    for (let at = 0; at < fresh.length; ) {
      const equal = equalUntil(old, fresh, at);
      // A long equal run is a copy, also because the machine can then share it.
      const end = Math.min(fresh.length, at + PIECE_BYTES);
      if (equal >= end || equal - at >= PIECE_BYTES) {
        this.copy(source, offset + at, equal - at);
        at = equal;
        continue;
      }
      this.#setMode(MODE.PLAIN);
      this.#place(source, offset + at, OPERATION.ADD, end - at);
      this.#runs(old.subarray(at, end), fresh.subarray(at, end));
      this.#closeFull();
      at = end;
    }
  }

  /** Gives a source an address map, to be called before predictions from it. */
  map(source: number, parts: AddressMapParts): void {
    this.#switch(source);
    this.#streams.operations.byte(OPERATION.MAP);
    writeAddressMap(this.#streams, parts);
    this.#closeFull();
  }

  /**
   * `fresh` as what differs from what the reader predicts in a mode, at most 64 KiB; the prediction
   * is made of as many bytes of a source at `offset`.
   */
  addPredicted(
    source: number,
    offset: number,
    mode: number,
    predicted: Uint8Array,
    fresh: Uint8Array,
  ): void {
    this.#setMode(mode);
    this.#place(source, offset, OPERATION.ADD, fresh.length);
    this.#runs(predicted, fresh);
    this.#closeFull();
  }

  /** Bytes that come from no source; with a filter `made` bytes of the content stand before them. */
  literal(bytes: Uint8Array, filter: number = FILTER.NONE, made = 0): void {
    if (bytes.length > 0) this.#setFilter(filter);
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
      let part = bytes.subarray(at, at + PIECE_BYTES);
      if (filter !== FILTER.NONE) {
        part = Uint8Array.from(part);
        filterCode(filter, part, 0, part.length, made + at);
      }
      this.#streams.operations.byte(OPERATION.LITERAL);
      this.#streams.lengths.number(part.length);
      this.#streams.literals.bytes(part);
      if (this.#current !== undefined) {
        this.#positions[this.#current] = (this.#positions[this.#current] ?? 0) + part.length;
      }
      this.#closeFull();
    }
  }

  /** The chunks that are full; each is given once. */
  takeFull(): ContentChunk[] {
    const taken = this.#chunks;
    this.#chunks = [];
    return taken;
  }

  /** All that was not taken yet. */
  finish(): ContentChunk[] {
    if (this.#streams.operations.length > 0) this.#close();
    return this.takeFull();
  }

  #place(source: number, offset: number, operation: number, length: number): void {
    const { operations, lengths, seeks } = this.#streams;
    this.#switch(source);
    const position = this.#positions[source] ?? 0;
    const seek = offset - position;
    operations.byte(seek === 0 ? operation : operation + 1);
    if (seek !== 0) seeks.signed(seek);
    lengths.number(length);
    this.#positions[source] = offset + length;
  }

  #switch(source: number): void {
    if (this.#current === source) return;
    this.#streams.operations.byte(OPERATION.SWITCH);
    this.#streams.commands.number(source);
    this.#current = source;
  }

  #setMode(mode: number): void {
    if (this.#mode === mode) return;
    this.#streams.operations.byte(OPERATION.MODE);
    this.#streams.commands.number(mode);
    this.#mode = mode;
  }

  #setFilter(filter: number): void {
    if (this.#filter === filter) return;
    this.#streams.operations.byte(OPERATION.FILTER);
    this.#streams.commands.number(filter);
    this.#filter = filter;
  }

  #runs(old: Uint8Array, fresh: Uint8Array): void {
    const { runs, differences } = this.#streams;
    for (let at = 0; at < fresh.length; ) {
      const start = equalUntil(old, fresh, at);
      runs.number(start - at);
      if (start === fresh.length) return;
      let end = start + 1;
      while (end < fresh.length && old[end] !== fresh[end]) end += 1;
      runs.number(end - start);
      for (let i = start; i < end; i += 1) differences.byte((fresh[i] ?? 0) - (old[i] ?? 0));
      at = end;
    }
  }

  #closeFull(): void {
    let length = 0;
    for (const stream of Object.values(this.#streams)) length += stream.length;
    if (length >= CHUNK_BYTES) this.#close();
  }

  #close(): void {
    const { operations, lengths, seeks, runs, differences, literals, commands } = this.#streams;
    this.#chunks.push({
      ...{ operations: operations.take(), lengths: lengths.take(), seeks: seeks.take() },
      ...{ runs: runs.take(), differences: differences.take(), literals: literals.take() },
      commands: commands.take(),
    });
  }
}

/** Where from `at` on the two first differ; their length when they do not. */
function equalUntil(old: Uint8Array, fresh: Uint8Array, at: number): number {
  let end = at;
  while (end < fresh.length && old[end] === fresh[end]) end += 1;
  return end;
}
