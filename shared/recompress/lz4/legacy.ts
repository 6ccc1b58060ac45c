import { Collector } from '../collector.ts';
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
const COPY = 256 * 1024;

/** The packed size of the block at `offset`, or undefined where the frame ends. */
function blockSize(source: ByteSource, offset: number): number | undefined {
  const bytes = readBytes(source, offset, 4);
  if (bytes.length < 4) return undefined;
  const size = Buffer.from(bytes).readUInt32LE();
  const fits = size > 0 && size <= MAX_PACKED_BLOCK && offset + 4 + size <= source.size;
  return fits ? size : undefined;
}

/** Copies of a large buffer that is used again: small ones, which are collected soon. */
function* copiesOf(bytes: Uint8Array): Generator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += COPY) {
    yield new Uint8Array(bytes.subarray(at, at + COPY));
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

  async *unpack(open) {
    const input = new Collector(open());
    input.take(4);
    const content = Buffer.allocUnsafe(BLOCK);
    for (let header = input.take(4); header.length === 4; header = input.take(4)) {
      const block = input.take(Math.min(header.readUInt32LE(), MAX_PACKED_BLOCK));
      yield* copiesOf(content.subarray(0, unpackLz4Block(block, content)));
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
    function* flush() {
      const packed = packer.pack(block.subarray(0, filled));
      const size = Buffer.alloc(4);
      size.writeUInt32LE(packed.length);
      filled = 0;
      yield size;
      yield* copiesOf(packed);
    }
    yield MAGIC;
    for await (const bytes of content.open()) {
      for (let at = 0; at < bytes.length; ) {
        const piece = bytes.subarray(at, at + BLOCK - filled);
        block.set(piece, filled);
        filled += piece.length;
        at += piece.length;
        if (filled === BLOCK) yield* flush();
      }
    }
    if (filled > 0) yield* flush();
  },
};
