import type { Digest } from '../../digest.ts';
import { ByteWriter } from './bytes.ts';
import { COMMAND } from './commands.ts';
import { type ContentChunk, ContentWriter } from './content-writer.ts';
import { EntryWriter } from './entry-writer.ts';
import { encodeHeader, type LayerDeltaHeader, STREAMS, type StreamName } from './header.ts';
import { OPERATION } from './operation-codes.ts';
import { coderOf, type LayerDeltaPacking } from './packing.ts';
import { PartsLedger } from './parts-ledger.ts';
import { UNPACK_FROM } from './parts-reader.ts';
import { SegmentWriter } from './segment-writer.ts';
import type { SourceEntry } from './source-entries.ts';
import type { TarRecord } from './tar-records.ts';

/** Something that content is made of. */
export type ContentSource =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'entry'; readonly index: number }
  | { readonly kind: 'part'; readonly part: number };

/** The operations of a content, as they are made. */
export type Chunks = Iterable<ContentChunk> | AsyncIterable<ContentChunk>;

/** A segment is closed when it has this many bytes unpacked. */
const SEGMENT_TARGET = 2 * 1024 * 1024;
const SEGMENT_LIMIT = 4 * 1024 * 1024;

/**
 * Writes a layer delta. Its body goes to `write` as it comes; the header, which declares what the
 * body turned out to need, comes last, from {@link finish}.
 */
export class LayerDeltaWriter {
  readonly #segments: SegmentWriter;
  readonly #coders: LayerDeltaHeader['coders'];
  readonly #streams: Record<StreamName, ByteWriter>;
  readonly #entries: EntryWriter;
  readonly #parts = new PartsLedger();
  readonly #recipes = new Map<string, number>();
  #pointer = 0;
  /** What the next segment starts with. */
  #checkpoint: { outputPosition: number; sourcePointer: number } | undefined = {
    ...{ outputPosition: 0, sourcePointer: 0 },
  };
  #isEmpty = true;
  #sinceCheckpoint = 0;
  #encoderMemory = 0;
  #encodeSeconds = 0;

  constructor(packing: LayerDeltaPacking, write: (bytes: Uint8Array) => Promise<void>) {
    this.#coders = STREAMS.map((name) => coderOf(name, packing));
    const header = { coders: this.#coders, segmentLimit: SEGMENT_LIMIT };
    this.#segments = new SegmentWriter(header, packing.level, write);
    this.#streams = eachStream(() => new ByteWriter());
    this.#entries = new EntryWriter(this.#streams);
  }

  /** The source pointer. */
  get pointer(): number {
    return this.#pointer;
  }

  /** Most bytes of parts that live at one time, so far. */
  get temporaryBytes(): number {
    return this.#parts.mostBytes;
  }

  /** Seconds that all encoders take, so far. */
  get encodeSeconds(): number {
    return this.#encodeSeconds;
  }

  /** Packed bytes so far, by stream. */
  get packed(): Readonly<Record<StreamName, number>> {
    return this.#segments.packed;
  }

  /** The next `count` source entries as they are. */
  keep(count: number): void {
    this.#streams.commands.byte(COMMAND.KEEP);
    this.#streams.commands.number(count);
    this.#pointer += count;
  }

  moveTo(pointer: number): void {
    if (pointer === this.#pointer) return;
    this.#streams.commands.byte(COMMAND.MOVE);
    this.#streams.commands.signed(pointer - this.#pointer);
    this.#pointer = pointer;
  }

  /**
   * The headers of an entry; `reference` is the source entry that they are coded against. After it,
   * for a regular file with content, comes {@link wholeSource} or {@link content}. False, with
   * nothing written, when they have a form that only {@link stream} can carry.
   */
  entry(
    records: readonly TarRecord[],
    reference?: { readonly index: number; readonly entry: SourceEntry },
  ): boolean {
    if (!this.#entries.write(records, reference, this.#pointer)) return false;
    if (reference !== undefined) this.#pointer = reference.index + 1;
    return true;
  }

  /** The content of the entry is that of its default source. */
  wholeSource(): void {
    this.#streams.commands.byte(0);
  }

  /** The content of the entry by operations whose table starts with the default source. */
  async content(sources: readonly ContentSource[], chunks: Chunks): Promise<void> {
    this.#streams.commands.byte(1);
    await this.#operations(sources, chunks);
  }

  /** `size` bytes of the tar stream by operations. */
  async stream(size: number, sources: readonly ContentSource[], chunks: Chunks): Promise<void> {
    this.#streams.commands.byte(COMMAND.STREAM);
    this.#streams.commands.number(size);
    await this.#operations(sources, chunks);
  }

  /** Bytes of the tar stream as they are. */
  async literal(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    const content = new ContentWriter(0);
    content.literal(bytes);
    await this.stream(bytes.length, [], content.finish());
  }

  /** A new part by operations; returns its number. */
  async build(size: number, sources: readonly ContentSource[], chunks: Chunks): Promise<number> {
    this.#streams.commands.byte(COMMAND.BUILD);
    this.#streams.commands.number(size);
    await this.#operations(sources, chunks);
    return this.#parts.add(size);
  }

  /** A new part of what a stretch of a source unpacks to; `memory` is what unpacking takes, bytes. */
  unpack(
    from: ContentSource,
    packed: { readonly offset: number; readonly length: number },
    method: number,
    size: number,
    memory: number,
  ): number {
    const { commands } = this.#streams;
    commands.byte(COMMAND.UNPACK);
    this.#source(from, commands, UNPACK_FROM);
    commands.number(packed.offset);
    commands.number(packed.length);
    commands.byte(method);
    commands.number(size);
    this.#encoderMemory = Math.max(this.#encoderMemory, memory);
    return this.#parts.add(size);
  }

  /**
   * A new part of what another becomes with a recipe; `memory` (bytes) and `seconds` are what the
   * encoder takes.
   */
  encode(part: number, recipe: Uint8Array, size: number, memory: number, seconds = 0): number {
    this.#encodeSeconds += seconds;
    const { commands, text } = this.#streams;
    commands.byte(COMMAND.ENCODE);
    commands.number(this.#parts.age(part));
    const key = Buffer.from(recipe).toString('latin1');
    const known = this.#recipes.get(key);
    commands.number(known ?? 0);
    if (known === undefined) {
      commands.number(recipe.length);
      text.bytes(recipe);
      this.#recipes.set(key, this.#recipes.size + 1);
    }
    commands.number(size);
    this.#encoderMemory = Math.max(this.#encoderMemory, memory);
    return this.#parts.add(size);
  }

  /** Gives up a part. */
  free(part: number): void {
    this.#streams.commands.byte(COMMAND.FREE);
    this.#streams.commands.number(this.#parts.age(part));
    this.#parts.remove(part);
  }

  /** Ends the delta and returns what stands before its body. */
  async finish(output: {
    readonly size: number;
    readonly digest: Digest;
    readonly sourceLayers: readonly Digest[];
  }): Promise<Buffer> {
    if (this.#isEmpty || this.#pending() > 0) await this.#flush();
    await this.#segments.end();
    return encodeHeader({
      ...{ outputSize: output.size, outputDigest: output.digest },
      ...{ segmentLimit: SEGMENT_LIMIT, temporaryLimit: this.#parts.mostBytes },
      ...{ partLimit: this.#parts.mostParts, encoderMemory: this.#encoderMemory },
      ...{ sourceLayers: output.sourceLayers, coders: this.#coders },
    });
  }

  close(): void {
    this.#segments.close();
  }

  /** Unpacked bytes of the delta since the last checkpoint. */
  get sinceCheckpoint(): number {
    return this.#sinceCheckpoint + this.#pending();
  }

  /**
   * Lets readers go on here, where the tar stream has so many bytes; between two commands. It costs
   * what the coders knew. Does nothing while a part lives.
   */
  async checkpoint(outputPosition: number): Promise<void> {
    if (this.#parts.count > 0) return;
    if (this.#pending() > 0) await this.#flush();
    if (this.#isEmpty) return;
    this.#checkpoint = { outputPosition, sourcePointer: this.#pointer };
    this.#sinceCheckpoint = 0;
    this.#parts.restart();
    this.#recipes.clear();
    this.#entries.restart();
  }

  /** Writes out what has gathered; between two commands it may be called at any time. */
  async drain(): Promise<void> {
    if (this.#pending() >= SEGMENT_TARGET) await this.#flush();
  }

  async #operations(sources: readonly ContentSource[], chunks: Chunks): Promise<void> {
    for (const source of sources) this.#source(source, this.#streams.operations, OPERATION);
    for await (const chunk of chunks) {
      for (const [name, bytes] of Object.entries(chunk)) {
        this.#streams[name as keyof ContentChunk].bytes(bytes);
      }
      await this.drain();
    }
  }

  /** Names a source; which kind it is goes to `kinds`. */
  #source(
    source: ContentSource,
    kinds: ByteWriter,
    codes: Readonly<Record<'FILE' | 'ENTRY_FILE' | 'PART', number>>,
  ): void {
    const { commands, text } = this.#streams;
    if (source.kind === 'file') {
      kinds.byte(codes.FILE);
      writePath(commands, text, source.path);
    } else if (source.kind === 'entry') {
      kinds.byte(codes.ENTRY_FILE);
      commands.signed(source.index - this.#pointer);
    } else {
      kinds.byte(codes.PART);
      commands.number(this.#parts.age(source.part));
    }
  }

  #pending(): number {
    return STREAMS.reduce((sum, name) => sum + this.#streams[name].length, 0);
  }

  async #flush(): Promise<void> {
    const bytes = eachStream((name) => this.#streams[name].take());
    this.#sinceCheckpoint += STREAMS.reduce((sum, name) => sum + bytes[name].length, 0);
    const checkpoint = this.#checkpoint;
    this.#checkpoint = undefined;
    this.#isEmpty = false;
    await this.#segments.segment(bytes, checkpoint);
  }
}

function writePath(commands: ByteWriter, text: ByteWriter, path: string): void {
  const bytes = Buffer.from(path, 'latin1');
  commands.number(bytes.length);
  text.bytes(bytes);
}

function eachStream<T>(make: (name: StreamName) => T): Record<StreamName, T> {
  return Object.fromEntries(STREAMS.map((name) => [name, make(name)])) as Record<StreamName, T>;
}
