import { ByteReader, invalidDelta } from './bytes.ts';
import { openUnpacker, type StreamUnpacker } from './coder.ts';
import {
  checkHeader,
  LAYER_DELTA_MAGIC,
  type LayerDeltaHeader,
  type LayerDeltaLimits,
  MAX_HEADER_BYTES,
  parseLayerDeltaHeader,
  STREAMS,
  type StreamName,
} from './header.ts';

/** Where a reader may go on (FORMAT.md section 3.2). */
export type Checkpoint = {
  /** Byte of the delta at which the segment starts. */
  readonly deltaOffset: number;
  /** Bytes of tar stream before it. */
  readonly outputPosition: number;
  readonly sourcePointer: number;
};

/** How many more bytes than unpacked ones a stream may take in one segment. */
const MAX_PACKED_EXCESS = 65_536;
const SEGMENT = { END: 0, NEXT: 1, CHECKPOINT: 2 } as const;

/** Reads a sequence of chunks by number of bytes. */
class ChunkReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);
  #at = 0;
  /** Bytes read so far. */
  position: number;

  constructor(chunks: AsyncIterable<Uint8Array>, position: number) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.position = position;
  }

  /** Exactly `length` bytes. Throws DELTA_INVALID when there are fewer. */
  async read(length: number): Promise<Uint8Array> {
    if (this.#chunk.length - this.#at >= length) return this.#part(length);
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length; ) {
      if (!(await this.#fill())) throw invalidDelta('the delta is cut off');
      const part = this.#part(length - filled);
      bytes.set(part, filled);
      filled += part.length;
    }
    return bytes;
  }

  async byte(): Promise<number> {
    return (await this.read(1))[0] ?? 0;
  }

  async number(): Promise<number> {
    const bytes = [await this.byte()];
    while ((bytes.at(-1) ?? 0) >= 0x80 && bytes.length < 9) bytes.push(await this.byte());
    return new ByteReader(Uint8Array.from(bytes)).number();
  }

  async ended(): Promise<boolean> {
    return !(await this.#fill());
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }

  #part(most: number): Uint8Array {
    const part = this.#chunk.subarray(this.#at, this.#at + most);
    this.#at += part.length;
    this.position += part.length;
    return part;
  }

  async #fill(): Promise<boolean> {
    while (this.#at >= this.#chunk.length) {
      const next = await this.#chunks.next();
      if (next.done) return false;
      this.#chunk = next.value;
      this.#at = 0;
    }
    return true;
  }
}

type StreamHead = { readonly index: number; readonly length: number; readonly packed: number };

/**
 * Reads a delta segment by segment. {@link streams} hold the unpacked bytes of the present segment.
 */
export class SegmentReader {
  readonly #input: ChunkReader;
  readonly #limits: LayerDeltaLimits;
  #header: LayerDeltaHeader | undefined;
  #unpackers: (StreamUnpacker | undefined)[] = [];
  #heads: readonly StreamHead[] = [];
  readonly #before = new Map<StreamName, number>();
  readonly streams: Readonly<Record<StreamName, ByteReader>> = {
    commands: new ByteReader(),
    operations: new ByteReader(),
    lengths: new ByteReader(),
    seeks: new ByteReader(),
    runs: new ByteReader(),
    differences: new ByteReader(),
    literals: new ByteReader(),
    text: new ByteReader(),
  };

  /**
   * `delta` starts at byte `position`; a reader that goes on at a checkpoint gives the header that
   * it read before.
   */
  constructor(
    delta: AsyncIterable<Uint8Array>,
    limits: LayerDeltaLimits,
    resumed?: { readonly header: LayerDeltaHeader; readonly position: number },
  ) {
    this.#input = new ChunkReader(delta, resumed?.position ?? 0);
    this.#limits = limits;
    this.#header = resumed?.header;
    if (resumed !== undefined) checkHeader(resumed.header, limits);
  }

  /** Throws DELTA_INVALID, LIMIT_EXCEEDED. */
  async header(): Promise<LayerDeltaHeader> {
    if (this.#header !== undefined) return this.#header;
    const magic = await this.#input.read(LAYER_DELTA_MAGIC.length);
    if (!LAYER_DELTA_MAGIC.equals(magic)) {
      throw invalidDelta('the delta does not start as a layer delta of version 1 does');
    }
    const length = await this.#input.number();
    if (length > MAX_HEADER_BYTES) throw invalidDelta('the header of the delta is too long');
    this.#header = parseLayerDeltaHeader(await this.#input.read(length));
    checkHeader(this.#header, this.#limits);
    return this.#header;
  }

  /**
   * Goes on to the next segment, which must find the one before used up. Says where it starts when
   * it is a checkpoint, and `end` at the end of the delta. Throws DELTA_INVALID.
   */
  async next(): Promise<Checkpoint | 'next' | 'end'> {
    const header = await this.header();
    for (const name of STREAMS) {
      if (this.streams[name].left > 0) {
        throw invalidDelta(`a segment of the delta holds more ${name} than it uses`);
      }
    }
    const deltaOffset = this.#input.position;
    const kind = await this.#input.byte();
    if (kind === SEGMENT.END) {
      if (!(await this.#input.ended())) throw invalidDelta('bytes follow the end of the delta');
      return 'end';
    }
    if (kind !== SEGMENT.NEXT && kind !== SEGMENT.CHECKPOINT) {
      throw invalidDelta(`the delta holds a segment of the unknown kind ${kind}`);
    }
    let found: Checkpoint | 'next' = 'next';
    if (kind === SEGMENT.CHECKPOINT) {
      const outputPosition = await this.#input.number();
      const sourcePointer = await this.#input.number();
      found = { deltaOffset, outputPosition, sourcePointer };
      this.#closeUnpackers();
    }
    for (const name of STREAMS) this.#before.set(name, this.used(name));
    this.#heads = await this.#readHeads(header);
    await this.#unpack(header, this.#heads);
    return found;
  }

  /**
   * About how many packed bytes of a stream were used up so far: of the present segment in
   * proportion to what was read of it.
   */
  used(name: StreamName): number {
    const head = this.#heads.find(({ index }) => STREAMS[index] === name);
    const before = this.#before.get(name) ?? 0;
    if (head === undefined) return before;
    const share = 1 - this.streams[name].left / head.length;
    return before + Math.floor(head.packed / 2) * share;
  }

  async close(): Promise<void> {
    this.#closeUnpackers();
    await this.#input.close();
  }

  #closeUnpackers(): void {
    for (const unpacker of this.#unpackers) unpacker?.close();
    this.#unpackers = [];
  }

  async #readHeads(header: LayerDeltaHeader): Promise<StreamHead[]> {
    const present = await this.#input.byte();
    const indexes = STREAMS.map((_, index) => index).filter((index) => present & (1 << index));
    const lengths: number[] = [];
    for (const _ of indexes) lengths.push(await this.#input.number());
    const total = lengths.reduce((sum, length) => sum + length, 0);
    if (total > header.segmentLimit) {
      throw invalidDelta('a segment of the delta is larger than the delta declares');
    }
    const heads: StreamHead[] = [];
    for (const [i, index] of indexes.entries()) {
      const length = lengths[i] ?? 0;
      const packed = await this.#input.number();
      const bytes = Math.floor(packed / 2);
      const stored = packed % 2 === 1;
      const fits = stored ? bytes === length : bytes <= length + MAX_PACKED_EXCESS;
      if (length === 0 || !fits) throw invalidDelta('a stream of the delta has a wrong length');
      heads.push({ index, length, packed });
    }
    return heads;
  }

  async #unpack(header: LayerDeltaHeader, heads: readonly StreamHead[]): Promise<void> {
    const unpacked: Promise<void>[] = [];
    try {
      for (const { index, length, packed } of heads) {
        const name = STREAMS[index] as StreamName;
        const bytes = await this.#input.read(Math.floor(packed / 2));
        if (packed % 2 === 1) {
          this.streams[name].reset(bytes.slice());
          continue;
        }
        const coder = header.coders[index] ?? { coder: 0, parameter: 0 };
        this.#unpackers[index] ??= openUnpacker(coder);
        const held = this.#unpackers[index].unpack(bytes.slice(), length);
        unpacked.push(held.then((found) => this.streams[name].reset(found)));
      }
    } finally {
      // Nothing runs on when one of them fails.
      await Promise.allSettled(unpacked);
    }
    await Promise.all(unpacked);
  }
}
