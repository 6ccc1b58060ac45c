import type { Encoder } from '../encoder.ts';
import type { Format } from '../format.ts';
import { type ByteSource, readBytes } from '../part.ts';
import { readSettings } from '../recipe.ts';
import { Lz4BlockPacker, packedBound } from './block.ts';
import { unpackLz4Block } from './unpack-block.ts';

/**
 * The legacy frame of LZ4 (LZ4 frame format, section "Legacy frame"), which Linux kernels and
 * initrds use: a magic number, then blocks of 8 MiB of content, each after its packed size.
 */
const MAGIC = Buffer.from([0x02, 0x21, 0x4c, 0x18]);
const BLOCK = 8 * 1024 ** 2;
const MAX_PACKED_BLOCK = packedBound(BLOCK);

/** The packed size of the block at `offset`, or undefined where the frame ends. */
function blockSize(source: ByteSource, offset: number): number | undefined {
  const bytes = readBytes(source, offset, 4);
  if (bytes.length < 4) return undefined;
  const size = Buffer.from(bytes).readUInt32LE();
  const fits = size > 0 && size <= MAX_PACKED_BLOCK && offset + 4 + size <= source.size;
  return fits ? size : undefined;
}

/** Collects a stream into pieces of given sizes. */
class Collector {
  readonly #chunks: Iterator<Uint8Array>;
  #held = Buffer.alloc(0);

  constructor(chunks: Iterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.iterator]();
  }

  take(size: number): Buffer {
    const parts = [this.#held];
    let held = this.#held.length;
    while (held < size) {
      const next = this.#chunks.next();
      if (next.done) break;
      parts.push(Buffer.from(next.value));
      held += next.value.length;
    }
    const all = Buffer.concat(parts);
    this.#held = all.subarray(size);
    return all.subarray(0, size);
  }
}

export const lz4LegacyFormat: Format = {
  name: 'lz4-legacy',

  measure(source, offset) {
    if (Buffer.compare(readBytes(source, offset, 4), MAGIC) !== 0) {
      return Promise.resolve(undefined);
    }
    let end = offset + 4;
    for (let size = blockSize(source, end); size !== undefined; size = blockSize(source, end)) {
      end += 4 + size;
    }
    return Promise.resolve(end > offset + 4 ? end - offset : undefined);
  },

  async *unpack(packed) {
    const input = new Collector(packed);
    input.take(4);
    const content = Buffer.allocUnsafe(BLOCK);
    for (let header = input.take(4); header.length === 4; header = input.take(4)) {
      const block = input.take(Math.min(header.readUInt32LE(), MAX_PACKED_BLOCK));
      yield Uint8Array.prototype.slice.call(content, 0, unpackLz4Block(block, content));
    }
  },

  propose() {
    return [9, 8, 7, 6, 5, 4, 3].map((level) => ({
      encoder: 'lz4hc',
      settings: { level },
      frame: new Uint8Array(0),
    }));
  },
};

/** `lz4 -l` at levels 3 to 9, as versions 1.8 to 1.10 write it. */
export const lz4LegacyEncoder: Encoder = {
  name: 'lz4hc',

  cost(recipe) {
    readSettings(recipe, { level: [3, 9] });
    return { memoryBytes: 3 * BLOCK, secondsPerMegabyte: 0.12 };
  },

  async *pack(recipe, content) {
    const packer = new Lz4BlockPacker(readSettings(recipe, { level: [3, 9] }).level);
    const block = Buffer.allocUnsafe(BLOCK);
    let filled = 0;
    const flush = () => {
      const packed = packer.pack(block.subarray(0, filled));
      const result = Buffer.allocUnsafe(4 + packed.length);
      result.writeUInt32LE(packed.length);
      result.set(packed, 4);
      filled = 0;
      return result;
    };
    yield MAGIC;
    for await (const bytes of content) {
      for (let at = 0; at < bytes.length; ) {
        const piece = bytes.subarray(at, at + BLOCK - filled);
        block.set(piece, filled);
        filled += piece.length;
        at += piece.length;
        if (filled === BLOCK) yield flush();
      }
    }
    if (filled > 0) yield flush();
  },
};
