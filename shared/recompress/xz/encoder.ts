import { SnapgateError } from '../../errors.ts';
import type { Encoder, PackedStart } from '../encoder.ts';
import { type Recipe, readSettings } from '../recipe.ts';
import {
  CHECK_SIZES,
  encodeVli,
  STREAM_HEADER_SIZE,
  streamEnd,
  streamHeader,
  withChecksum,
} from './container.ts';
import { FILTER_DELTA, FILTER_LZMA2, type Liblzma, loadLiblzma, packXzBlock } from './liblzma.ts';

const MIB = 1024 ** 2;
/** Largest block; it stands in liblzma's memory whole, packed and unpacked. */
const MAX_BLOCK = 64 * MIB;
export const MAX_DICTIONARY = 8 * MIB;
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
function packBlock(lzma: Liblzma, content: Uint8Array, settings: Settings) {
  const { filter, distance, check } = settings;
  const stream = packXzBlock(lzma, content, settings, { id: filter, distance }, check);
  // Only LZMA2 data and check are wanted of it: the header may differ in length and sizes.
  const start = STREAM_HEADER_SIZE + ((stream[STREAM_HEADER_SIZE] ?? 0) + 1) * 4;
  const checkSize = CHECK_SIZES[check] ?? 0;
  const view = Buffer.from(stream.buffer, stream.byteOffset, stream.length);
  const end = view.length - 12 - (view.readUInt32LE(view.length - 8) + 1) * 4;
  const packedSize = firstUnpaddedSize(view, end) - (start - STREAM_HEADER_SIZE) - checkSize;
  const header = blockHeader(settings, packedSize, content.length);
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

/** Cuts content into blocks of `size` bytes, the last one shorter; one block where `size` is 0. */
async function* inBlocks(
  content: AsyncIterable<Uint8Array>,
  size: number,
): AsyncGenerator<Uint8Array> {
  let held: Uint8Array[] = [];
  let heldSize = 0;
  for await (const bytes of content) {
    for (let at = 0; at < bytes.length; ) {
      const limit = size === 0 ? MAX_BLOCK : size;
      const piece = bytes.slice(at, at + limit - heldSize);
      held.push(piece);
      heldSize += piece.length;
      at += piece.length;
      if (heldSize < limit) continue;
      if (size === 0) throw new SnapgateError('LIMIT_EXCEEDED', 'an xz block is too large');
      yield Buffer.concat(held);
      held = [];
      heldSize = 0;
    }
  }
  if (heldSize > 0) yield Buffer.concat(held);
}

/**
 * xz with LZMA2, by liblzma 5.8 in WebAssembly; since 5.0 its versions have written the same data.
 * The container is written here, so that streams of the multi-threaded encoder (sizes in each block
 * header, content cut into blocks) come out as well as single-threaded ones.
 */
export const xzEncoder: Encoder = {
  name: 'xz',

  cost(recipe, contentBytes) {
    const { dictionary, blockSize } = xzSettings(recipe);
    const block = Math.min(contentBytes, blockSize === 0 ? MAX_BLOCK : blockSize);
    return { memoryBytes: 12 * dictionary + 3 * block + 4 * MIB, secondsPerMegabyte: 0.4 };
  },

  async *pack(recipe, content) {
    const settings = xzSettings(recipe);
    const lzma = await loadLiblzma();
    const records: (readonly [number, number])[] = [];
    yield streamHeader(settings.check);
    for await (const block of inBlocks(content.open(), settings.blockSize)) {
      const { bytes, unpadded } = packBlock(lzma, block, settings);
      records.push([unpadded, block.length]);
      yield bytes;
    }
    yield streamEnd(settings.check, records);
  },

  async probe(recipe, readStart): Promise<PackedStart> {
    const settings = xzSettings(recipe);
    const lzma = await loadLiblzma();
    const size = settings.blockSize === 0 ? PROBE : Math.min(PROBE, settings.blockSize >> 1);
    const { bytes } = packBlock(lzma, await readStart(size), settings);
    // The sizes of the first chunk may differ, and its end; its data do not.
    const chunk = settings.headerSize + 6;
    const packed = bytes[settings.headerSize + 3] as number;
    const certain = (bytes[settings.headerSize] as number) < 0x80 ? 0 : packed << 7;
    return {
      offset: STREAM_HEADER_SIZE + chunk,
      bytes: bytes.subarray(chunk, chunk + certain),
    };
  },
};
