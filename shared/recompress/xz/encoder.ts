import { SnapgateError } from '../../errors.ts';
import type { Content, Encoder, PackedStart } from '../encoder.ts';
import { type Recipe, readSettings } from '../recipe.ts';
import {
  CHECK_SIZES,
  encodeVli,
  STREAM_HEADER_SIZE,
  streamEnd,
  streamHeader,
  withChecksum,
} from './container.ts';
import { openLargeLiblzma, type ReadLiblzma } from './large-liblzma.ts';
import { FILTER_DELTA, FILTER_LZMA2, type Liblzma, loadLiblzma, XzBlockPacker } from './liblzma.ts';

const MIB = 1024 ** 2;
/** Largest block; it stands in liblzma's memory whole, packed and unpacked. */
export const MAX_BLOCK = 128 * MIB;
/** That of Linux's own images for x86; larger ones take more memory than any class of machines has. */
export const MAX_DICTIONARY = 32 * MIB;
/** Up to so many bytes are packed by the liblzma that a process has anyway. */
const COMMON_MEMORY = 224 * MIB;
/** What the WebAssembly has to itself. */
const BASE_MEMORY = 4 * MIB;
/** How much content tells whether the settings are right. */
const PROBE = 256 * 1024;

function xzSettings(recipe: Recipe) {
  const settings = readSettings(recipe, {
    check: [0, 10],
    blockSize: [0, MAX_BLOCK],
    headerSize: [8, 1024],
    sizes: [0, 1],
    filter: [0, 11],
    distance: [0, 256],
    dictionary: [4096, MAX_DICTIONARY],
    preset: [0, 9],
    extreme: [0, 1],
    lc: [0, 4],
    lp: [0, 4],
    pb: [0, 4],
  });
  const { check, filter, distance, headerSize, lc, lp } = settings;
  const possible =
    CHECK_SIZES[check] !== undefined &&
    (filter === 0 || filter >= FILTER_DELTA) &&
    (filter === FILTER_DELTA) === distance > 0 &&
    headerSize % 4 === 0 &&
    lc + lp <= 4;
  if (!possible) {
    throw new SnapgateError('DELTA_INVALID', 'a recipe has no possible settings for xz');
  }
  return settings;
}

type Settings = ReturnType<typeof xzSettings>;

/** The property byte of a dictionary size (xz file format, section 5.3.1). */
function dictionaryProperty(size: number): number {
  for (let property = 0; property <= 40; property++) {
    if ((2 | (property & 1)) * 2 ** (Math.floor(property / 2) + 11) >= size) return property;
  }
  return 40;
}

/** A block header (section 3.1), as long as the original's: encoders reserve room for the sizes. */
function blockHeader(settings: Settings, packedSize: number, unpackedSize: number): Buffer {
  const { filter, distance, dictionary, headerSize, sizes } = settings;
  const before =
    filter === 0 ? [] : filter === FILTER_DELTA ? [filter, 1, distance - 1] : [filter, 0];
  const fields = [
    headerSize / 4 - 1,
    (sizes === 1 ? 0xc0 : 0) | (filter === 0 ? 0 : 1),
    ...(sizes === 1 ? [...encodeVli(packedSize), ...encodeVli(unpackedSize)] : []),
    ...before,
    ...[FILTER_LZMA2, 1, dictionaryProperty(dictionary)],
  ];
  if (fields.length > headerSize - 4) {
    throw new SnapgateError('DELTA_INVALID', 'a recipe has too short a header for xz');
  }
  const header = Buffer.alloc(headerSize - 4);
  header.set(fields);
  return withChecksum(header);
}

/** One block as the original has it, and its size without padding. */
/** What liblzma needs for a block, in bytes: measured, and rounded up. */
function blockMemory(dictionary: number, block: number): number {
  return 12 * dictionary + 2 * block + 4 * MIB;
}

function packBlock(packer: XzBlockPacker, settings: Settings) {
  const { filter, distance, check } = settings;
  const stream = packer.pack(settings, { id: filter, distance }, check);
  // Only LZMA2 data and check are wanted of it: the header may differ in length and sizes.
  const start = STREAM_HEADER_SIZE + ((stream[STREAM_HEADER_SIZE] ?? 0) + 1) * 4;
  const checkSize = CHECK_SIZES[check] ?? 0;
  const view = Buffer.from(stream.buffer, stream.byteOffset, stream.length);
  const end = view.length - 12 - (view.readUInt32LE(view.length - 8) + 1) * 4;
  const packedSize = firstUnpaddedSize(view, end) - (start - STREAM_HEADER_SIZE) - checkSize;
  const header = blockHeader(settings, packedSize, packer.size);
  const unpadded = header.length + packedSize + checkSize;
  return { bytes: Buffer.concat([header, stream.subarray(start, end)]), unpadded };
}

/** The unpadded size in an index's first record: after a zero byte and the number of records, 1. */
function firstUnpaddedSize(stream: Buffer, index: number): number {
  let value = 0;
  for (let at = index + 2, unit = 1; ; at++, unit *= 0x80) {
    const byte = stream[at] ?? 0;
    value += (byte & 0x7f) * unit;
    if (byte < 0x80) return value;
  }
}

/** Packs content block by block, and passes the blocks on with their content's size. */
async function* packBlocks(
  lzma: Liblzma,
  settings: Settings,
  content: Content,
  blockSize: number,
): AsyncGenerator<{ bytes: Uint8Array; unpadded: number; size: number }> {
  let left = content.size;
  let packer: XzBlockPacker | undefined;
  try {
    for await (const bytes of content.open()) {
      for (let at = 0; at < bytes.length; ) {
        packer ??= new XzBlockPacker(lzma, Math.min(left, blockSize));
        const taken = packer.add(bytes.subarray(at));
        at += taken;
        left -= taken;
        if (packer.missing > 0) continue;
        yield { ...packBlock(packer, settings), size: packer.size };
        packer.close();
        packer = undefined;
      }
    }
  } finally {
    packer?.close();
  }
}

/**
 * xz with LZMA2, by liblzma 5.8 in WebAssembly; since 5.0 its versions have written the same data.
 * The container is written here, so that streams of the multi-threaded encoder (sizes in each block
 * header, content cut into blocks) come out as well as single-threaded ones.
 *
 * `read` gives the WebAssembly for a liblzma with more memory, for dictionaries and blocks that the
 * usual one is too small for; without it such recipes throw UNSUPPORTED.
 */
export function createXzEncoder(read?: ReadLiblzma): Encoder {
  const lzmaFor = (memoryBytes: number): Promise<Liblzma> => {
    if (memoryBytes <= COMMON_MEMORY) return loadLiblzma();
    if (read !== undefined) return openLargeLiblzma(read, memoryBytes + BASE_MEMORY);
    throw new SnapgateError('UNSUPPORTED', 'xz with so large a dictionary cannot be packed here', {
      hint: 'Ask for a delta without recompression.',
    });
  };

  return {
    name: 'xz',

    cost(recipe, contentBytes) {
      const { dictionary, blockSize } = xzSettings(recipe);
      const block = Math.min(contentBytes, blockSize === 0 ? MAX_BLOCK : blockSize);
      return {
        memoryBytes: blockMemory(dictionary, block) + block,
        secondsPerMegabyte: 0.4,
      };
    },

    async *pack(recipe, content) {
      const settings = xzSettings(recipe);
      const { dictionary, check } = settings;
      const block = settings.blockSize === 0 ? Math.max(1, content.size) : settings.blockSize;
      if (block > MAX_BLOCK) throw new SnapgateError('LIMIT_EXCEEDED', 'an xz block is too large');
      const lzma = await lzmaFor(blockMemory(dictionary, Math.min(block, content.size)));
      const records: (readonly [number, number])[] = [];
      yield streamHeader(check);
      for await (const packed of packBlocks(lzma, settings, content, block)) {
        records.push([packed.unpadded, packed.size]);
        yield packed.bytes;
      }
      yield streamEnd(check, records);
    },

    async probe(recipe, readStart): Promise<PackedStart> {
      const settings = xzSettings(recipe);
      const size = settings.blockSize === 0 ? PROBE : Math.min(PROBE, settings.blockSize >> 1);
      const lzma = await lzmaFor(blockMemory(settings.dictionary, size));
      const start = await readStart(size);
      const packer = new XzBlockPacker(lzma, start.length);
      try {
        packer.add(start);
        return certainStart(packBlock(packer, settings).bytes, settings.headerSize);
      } finally {
        packer.close();
      }
    },
  };
}

/** What a block's start says of any block with that start. */
function certainStart(block: Uint8Array, headerSize: number): PackedStart {
  // The sizes of the first chunk may differ, and its end; its data do not.
  const chunk = headerSize + 6;
  const packed = block[headerSize + 3] as number;
  const certain = (block[headerSize] as number) < 0x80 ? 0 : packed << 7;
  return {
    offset: STREAM_HEADER_SIZE + chunk,
    bytes: block.subarray(chunk, chunk + certain),
  };
}
