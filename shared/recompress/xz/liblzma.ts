import { initModule, type LZMAModule } from 'node-liblzma/wasm';
import { SnapgateError } from '../../errors.ts';

/** liblzma in WebAssembly: the same bytes on every machine and processor. */
export type Liblzma = LZMAModule;

/** Loads the module, once. It has at most 256 MiB of memory; `large-liblzma.ts` is for more. */
export function loadLiblzma(): Promise<Liblzma> {
  return initModule();
}

const OK = 0;
const STREAM_END = 1;
const MEMORY_LIMIT_ERROR = 6;
const RUN = 0;
const SYNC_FLUSH = 1;
const FINISH = 3;
/** Ends an array of filters. */
const NO_FILTER = 0xffffffffffffffffn;

export const FILTER_DELTA = 3;
export const FILTER_LZMA2 = 0x21;

const MODE = { FAST: 1, NORMAL: 2 } as const;
const FINDER = { HC3: 3, HC4: 4, BT4: 0x14 } as const;
const PRESET_EXTREME = 1;
/** The same as a flag of liblzma's own presets. */
const EXTREME = 2 ** 31;

/** The options of LZMA2, in the order in which liblzma's `lzma_options_lzma` has them. */
export type LzmaOptions = {
  readonly dictionary: number;
  /** `xz`'s level 0 to 9, without its dictionary size. */
  readonly preset: number;
  readonly extreme: number;
  /** Literal context, literal position and position bits. */
  readonly lc: number;
  readonly lp: number;
  readonly pb: number;
};

/** Sizes in 4-byte words of WebAssembly's 32-bit memory. */
const LZMA_OPTIONS_SIZE = 112;
const DELTA_OPTIONS_SIZE = 40;
const FILTER_SIZE = 16;
const STREAM_SIZE = 96;
const STREAM = { NEXT_IN: 0, AVAIL_IN: 4, NEXT_OUT: 16, AVAIL_OUT: 20 } as const;

/** Match finder and effort of a preset, as `xz`'s manual describes them. */
function effort({ preset, extreme }: LzmaOptions) {
  if (extreme === PRESET_EXTREME) {
    const short = preset === 3 || preset === 5;
    return short
      ? { mode: MODE.NORMAL, nice: 192, finder: FINDER.BT4, depth: 0 }
      : { mode: MODE.NORMAL, nice: 273, finder: FINDER.BT4, depth: 512 };
  }
  if (preset <= 3) {
    return {
      mode: MODE.FAST,
      nice: preset <= 1 ? 128 : 273,
      finder: preset === 0 ? FINDER.HC3 : FINDER.HC4,
      depth: [4, 8, 24, 48][preset] ?? 0,
    };
  }
  return {
    mode: MODE.NORMAL,
    nice: preset === 4 ? 16 : preset === 5 ? 32 : 64,
    finder: FINDER.BT4,
    depth: 0,
  };
}

/** Blocks of WebAssembly memory that are freed together. */
class Arena {
  readonly #lzma: Liblzma;
  readonly #blocks: number[] = [];

  constructor(lzma: Liblzma) {
    this.#lzma = lzma;
  }

  allocate(size: number): number {
    const block = this.#lzma._malloc(size);
    if (block === 0) {
      throw new SnapgateError('LIMIT_EXCEEDED', 'liblzma has not enough memory');
    }
    this.#blocks.push(block);
    return block;
  }

  /** A structure of 32-bit words, zero where `words` says nothing. */
  structure(size: number, words: Readonly<Record<number, number>>): number {
    const block = this.allocate(size);
    this.#lzma.HEAPU8.fill(0, block, block + size);
    for (const [word, value] of Object.entries(words)) {
      this.#lzma.setValue(block + 4 * Number(word), value, 'i32');
    }
    return block;
  }

  free(): void {
    for (const block of this.#blocks) this.#lzma._free(block);
    this.#blocks.length = 0;
  }
}

function failed(status: number): SnapgateError {
  if (status === MEMORY_LIMIT_ERROR) {
    return new SnapgateError('LIMIT_EXCEEDED', 'an xz stream needs more memory than is allowed');
  }
  return new SnapgateError('INTERNAL', `liblzma failed with status ${status}`);
}

/** What goes before LZMA2. */
type BlockFilter = { readonly id: number; readonly distance: number };

/** Packs content of a known size as one xz stream of one block. */
export class XzBlockPacker {
  readonly #lzma: Liblzma;
  readonly #arena: Arena;
  readonly #input: number;
  /** Bytes of the content, and how many of them are still to come. */
  readonly size: number;
  missing: number;

  /** Throws LIMIT_EXCEEDED where memory does not suffice. */
  constructor(lzma: Liblzma, size: number) {
    this.#lzma = lzma;
    this.#arena = new Arena(lzma);
    this.size = size;
    this.missing = size;
    try {
      this.#input = this.#arena.allocate(Math.max(1, size));
    } catch (error) {
      this.#arena.free();
      throw error;
    }
  }

  /** Takes as many of `bytes` as are missing, and returns how many that are. */
  add(bytes: Uint8Array): number {
    const taken = bytes.subarray(0, this.missing);
    if (taken.length === 0) throw new RangeError('more content than was said');
    this.#lzma.HEAPU8.set(taken, this.#input + this.size - this.missing);
    this.missing -= taken.length;
    return taken.length;
  }

  /**
   * The stream. `filter` goes before LZMA2: 0 for none, the id of a branch filter, or
   * {@link FILTER_DELTA} with its distance. Throws LIMIT_EXCEEDED where memory does not suffice.
   */
  pack(options: LzmaOptions, filter: BlockFilter, check: number): Uint8Array {
    const [lzma, arena, size] = [this.#lzma, this.#arena, this.size];
    const filters = this.#filters(options, filter);
    // LZMA2 stores what does not shrink, with three bytes for each 64 KiB.
    const room = size + (size >> 10) + 1024;
    const output = arena.allocate(room);
    const position = arena.structure(4, {});
    const status = lzma._lzma_stream_buffer_encode(
      ...([filters, check, 0, this.#input, size, output, position, room] as const),
    );
    if (status !== OK) throw failed(status);
    return lzma.HEAPU8.slice(output, output + lzma.getValue(position, 'i32'));
  }

  #filters(options: LzmaOptions, filter: BlockFilter): number {
    const [lzma, arena] = [this.#lzma, this.#arena];
    const { mode, nice, finder, depth } = effort(options);
    const { dictionary, lc, lp, pb } = options;
    const lzmaOptions = arena.structure(LZMA_OPTIONS_SIZE, {
      ...{ 0: dictionary, 3: lc, 4: lp, 5: pb, 6: mode, 7: nice, 8: finder, 9: depth },
    });
    const deltaOptions = arena.structure(DELTA_OPTIONS_SIZE, { 1: filter.distance });
    const before = filter.id === 0 ? [] : [filter.id];
    const filters = arena.structure(FILTER_SIZE * 3, {});
    for (const [index, id] of [...before, FILTER_LZMA2].entries()) {
      const own = id === FILTER_LZMA2 ? lzmaOptions : id === FILTER_DELTA ? deltaOptions : 0;
      lzma.setValue(filters + FILTER_SIZE * index, BigInt(id), 'i64');
      lzma.setValue(filters + FILTER_SIZE * index + 8, own, 'i32');
    }
    lzma.setValue(filters + FILTER_SIZE * (before.length + 1), NO_FILTER, 'i64');
    return filters;
  }

  close(): void {
    this.#arena.free();
  }
}

const CHUNK = 128 * 1024;

/** One of liblzma's coders, fed chunk by chunk. */
class ChunkCoder {
  readonly #lzma: Liblzma;
  readonly #arena: Arena;
  readonly #stream: number;
  readonly #input: number;
  readonly #output: number;
  /** Whether liblzma said that it is done with what it was asked for. */
  isDone = false;

  /** `open` makes a coder of a `lzma_stream` and returns liblzma's status. */
  constructor(lzma: Liblzma, open: (stream: number) => number) {
    this.#lzma = lzma;
    this.#arena = new Arena(lzma);
    this.#stream = this.#arena.structure(STREAM_SIZE, {});
    this.#input = this.#arena.allocate(CHUNK);
    this.#output = this.#arena.allocate(CHUNK);
    const status = open(this.#stream);
    if (status === OK) return;
    this.#arena.free();
    throw failed(status);
  }

  /** Takes up to {@link CHUNK} bytes and yields what comes of them. */
  *feed(bytes: Uint8Array, action: number): Generator<Uint8Array> {
    this.#lzma.HEAPU8.set(bytes, this.#input);
    this.#set(STREAM.NEXT_IN, this.#input);
    this.#set(STREAM.AVAIL_IN, bytes.length);
    this.isDone = false;
    for (let more = true; more && !this.isDone; ) {
      const content = this.#step(action);
      more = content.length === CHUNK || this.#get(STREAM.AVAIL_IN) > 0;
      if (content.length > 0) yield content;
    }
  }

  #step(action: number): Uint8Array {
    this.#set(STREAM.NEXT_OUT, this.#output);
    this.#set(STREAM.AVAIL_OUT, CHUNK);
    const status = this.#lzma._lzma_code(this.#stream, action);
    this.isDone = status === STREAM_END;
    if (status !== OK && !this.isDone) throw failed(status);
    const size = CHUNK - this.#get(STREAM.AVAIL_OUT);
    return this.#lzma.HEAPU8.slice(this.#output, this.#output + size);
  }

  #get(field: number): number {
    return this.#lzma.getValue(this.#stream + field, 'i32');
  }

  #set(field: number, value: number): void {
    this.#lzma.setValue(this.#stream + field, value, 'i32');
  }

  close(): void {
    this.#lzma._lzma_end(this.#stream);
    this.#arena.free();
  }
}

/** Packs bytes as the beginning of one xz stream without a check, so that each piece can be unpacked. */
export class XzPacker {
  readonly #coder: ChunkCoder;

  /** `preset` is 0 to 9, as `xz` has them. */
  constructor(lzma: Liblzma, preset: number, isExtreme: boolean) {
    const settings = preset | (isExtreme ? EXTREME : 0);
    this.#coder = new ChunkCoder(lzma, (stream) => lzma._lzma_easy_encoder(stream, settings, 0));
  }

  /** What `bytes` become; the packed pieces, one after the other, unpack to all bytes so far. */
  pack(bytes: Uint8Array): Uint8Array {
    const packed: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; at += CHUNK) {
      const action = at + CHUNK < bytes.length ? RUN : SYNC_FLUSH;
      packed.push(...this.#coder.feed(bytes.subarray(at, at + CHUNK), action));
    }
    return Buffer.concat(packed);
  }

  close(): void {
    this.#coder.close();
  }
}

/** Unpacks one xz stream. */
export class XzUnpacker {
  readonly #coder: ChunkCoder;

  /** Feeding throws LIMIT_EXCEEDED when it would need more than `maxMemory` bytes, INTERNAL when damaged. */
  constructor(lzma: Liblzma, maxMemory: number) {
    const limit = BigInt(maxMemory);
    this.#coder = new ChunkCoder(lzma, (stream) => lzma._lzma_stream_decoder(stream, limit, 0));
  }

  /** Whether the end of the stream was reached. */
  get ended(): boolean {
    return this.#coder.isDone;
  }

  /** Takes all of `bytes` that are before the end, and yields what they hold. */
  *feed(bytes: Uint8Array): Generator<Uint8Array> {
    for (let at = 0; at < bytes.length && !this.ended; at += CHUNK) {
      yield* this.#coder.feed(bytes.subarray(at, at + CHUNK), RUN);
    }
  }

  /** Yields what is left once no bytes follow. */
  *finish(): Generator<Uint8Array> {
    if (!this.ended) yield* this.#coder.feed(new Uint8Array(0), FINISH);
  }

  close(): void {
    this.#coder.close();
  }
}

/**
 * Unpacks one xz stream. Throws INTERNAL where it is damaged or cut short, and LIMIT_EXCEEDED where it
 * needs more than `maxMemory` bytes.
 */
export async function* unpackXz(
  lzma: Liblzma,
  packed: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  maxMemory: number,
): AsyncGenerator<Uint8Array> {
  const unpacker = new XzUnpacker(lzma, maxMemory);
  try {
    for await (const bytes of packed) yield* unpacker.feed(bytes);
    yield* unpacker.finish();
    if (!unpacker.ended) throw failed(STREAM_END);
  } finally {
    unpacker.close();
  }
}
