import { crc32 } from 'node:zlib';
import { type ByteSource, readBytes } from '../part.ts';

/**
 * The container of .xz files (the xz file format, version 1.2.1): headers, blocks and index, read
 * without unpacking anything.
 */
export type XzStream = {
  /** Size in bytes, from the first magic byte to the last. */
  readonly size: number;
  readonly check: number;
  readonly blocks: readonly XzBlock[];
};

export type XzBlock = {
  readonly offset: number;
  readonly headerSize: number;
  /** Whether the header says the sizes, as multi-threaded encoders write it. */
  readonly sizesInHeader: boolean;
  /** Filters in order, LZMA2 last. */
  readonly filters: readonly XzFilter[];
  readonly packedSize: number;
  readonly unpackedSize: number;
  /** The byte that encodes lc, lp and pb; undefined when nothing was packed with LZMA. */
  readonly lzmaProperties: number | undefined;
};

export type XzFilter = { readonly id: number; readonly properties: Uint8Array };

export const STREAM_HEADER_SIZE = 12;
const MAGIC = Buffer.from([0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]);
const FOOTER_MAGIC = Buffer.from('YZ');
const MAX_BLOCKS = 100_000;
const MAX_VLI_BYTES = 9;

/** Bytes of each kind of integrity check (section 2.1.1.2). */
export const CHECK_SIZES: Readonly<Record<number, number>> = { 0: 0, 1: 4, 4: 8, 10: 32 };

export function paddingTo4(size: number): number {
  return (4 - (size % 4)) % 4;
}

/** Writes a number as the format's multibyte integer (section 1.2). */
export function encodeVli(value: number): number[] {
  const bytes: number[] = [];
  let left = value;
  for (; left >= 0x80; left = Math.floor(left / 0x80)) bytes.push((left % 0x80) | 0x80);
  bytes.push(left);
  return bytes;
}

/** Reads a multibyte integer; returns the value and where it ends, or undefined. */
function decodeVli(bytes: Uint8Array, at: number): readonly [number, number] | undefined {
  let value = 0;
  for (let index = 0, unit = 1; index < MAX_VLI_BYTES; index++, unit *= 0x80) {
    const byte = bytes[at + index];
    if (byte === undefined) return undefined;
    value += (byte & 0x7f) * unit;
    if (!Number.isSafeInteger(value)) return undefined;
    if (byte < 0x80) return [value, at + index + 1];
  }
  return undefined;
}

function checksumFits(bytes: Uint8Array, from: number, to: number): boolean {
  return crc32(bytes.subarray(from, to)) === Buffer.from(bytes).readUInt32LE(to);
}

/** Bytes before the checksum, with it. */
export function withChecksum(bytes: Uint8Array): Buffer {
  const result = Buffer.alloc(bytes.length + 4);
  result.set(bytes);
  result.writeUInt32LE(crc32(bytes), bytes.length);
  return result;
}

/** The stream header (section 2.1.1). */
export function streamHeader(check: number): Buffer {
  const flags = Buffer.from([0, check]);
  return Buffer.concat([MAGIC, withChecksum(flags)]);
}

/** The index and the stream footer (sections 4 and 2.1.2) of blocks by unpadded and content size. */
export function streamEnd(check: number, blocks: readonly (readonly [number, number])[]): Buffer {
  const records = blocks.flatMap(([unpadded, content]) => [
    ...encodeVli(unpadded),
    ...encodeVli(content),
  ]);
  const fields = [0, ...encodeVli(blocks.length), ...records];
  const padding = Array.from({ length: paddingTo4(fields.length) }, () => 0);
  const index = withChecksum(Uint8Array.from([...fields, ...padding]));
  const footer = Buffer.alloc(6);
  footer.writeUInt32LE(index.length / 4 - 1, 0);
  footer[5] = check;
  const checksum = withChecksum(footer).subarray(6);
  return Buffer.concat([index, checksum, footer, FOOTER_MAGIC]);
}

/** Reads the stream that starts at `offset`; undefined where there is none that is whole. */
export function readXzStream(source: ByteSource, offset: number): XzStream | undefined {
  const header = readBytes(source, offset, STREAM_HEADER_SIZE);
  const check = header[7] ?? 0;
  if (header.length < STREAM_HEADER_SIZE || Buffer.compare(header, streamHeader(check)) !== 0) {
    return undefined;
  }
  const checkSize = CHECK_SIZES[check];
  if (checkSize === undefined) return undefined;
  const blocks: XzBlock[] = [];
  let at = offset + STREAM_HEADER_SIZE;
  for (;;) {
    const [first] = readBytes(source, at, 1);
    if (first === 0) break;
    const block = first === undefined ? undefined : readBlock(source, at, first);
    if (block === undefined || blocks.length === MAX_BLOCKS) return undefined;
    blocks.push(block);
    const unpadded = block.headerSize + block.packedSize;
    at += unpadded + paddingTo4(unpadded) + checkSize;
  }
  const records = blocks.map(({ headerSize, packedSize, unpackedSize }) => {
    return [headerSize + packedSize + checkSize, unpackedSize] as const;
  });
  const expected = streamEnd(check, records);
  const end = readBytes(source, at, expected.length);
  if (Buffer.compare(end, expected) !== 0) return undefined;
  return { size: at + expected.length - offset, check, blocks };
}

function readBlock(source: ByteSource, offset: number, sizeByte: number): XzBlock | undefined {
  const headerSize = (sizeByte + 1) * 4;
  const header = readBytes(source, offset, headerSize);
  if (header.length < headerSize || !checksumFits(header, 0, headerSize - 4)) return undefined;
  const flags = header[1] ?? 0xff;
  if ((flags & 0x3c) !== 0) return undefined;
  let at = 2;
  const next = () => {
    const read = decodeVli(header, at);
    at = read?.[1] ?? headerSize;
    return read?.[0];
  };
  const packed = (flags & 0x40) === 0 ? undefined : next();
  const unpacked = (flags & 0x80) === 0 ? undefined : next();
  const filters: XzFilter[] = [];
  for (let count = (flags & 3) + 1; count > 0; count--) {
    const id = next();
    const length = next();
    if (id === undefined || length === undefined || at + length > headerSize - 4) return undefined;
    filters.push({ id, properties: header.slice(at, at + length) });
    at += length;
  }
  const data = walkLzma2(source, offset + headerSize);
  if (data === undefined) return undefined;
  if (packed !== undefined && packed !== data.packedSize) return undefined;
  if (unpacked !== undefined && unpacked !== data.unpackedSize) return undefined;
  const sizesInHeader = packed !== undefined && unpacked !== undefined;
  return { offset, headerSize, sizesInHeader, filters, ...data };
}

/** Steps over the chunks of LZMA2 data; each says its sizes. */
function walkLzma2(source: ByteSource, offset: number) {
  let at = offset;
  let unpackedSize = 0;
  let lzmaProperties: number | undefined;
  for (;;) {
    const chunk = readBytes(source, at, 6);
    const [control = -1, b1 = 0, b2 = 0, b3 = 0, b4 = 0, properties = 0] = chunk;
    if (control === 0) return { packedSize: at + 1 - offset, unpackedSize, lzmaProperties };
    if (chunk.length < 6) return undefined;
    if (control >= 0x80) {
      unpackedSize += ((control & 0x1f) << 16) + (b1 << 8) + b2 + 1;
      if (control >= 0xc0) lzmaProperties ??= properties;
      at += (b3 << 8) + b4 + 1 + (control >= 0xc0 ? 6 : 5);
    } else if (control <= 2) {
      const size = (b1 << 8) + b2 + 1;
      unpackedSize += size;
      at += size + 3;
    } else {
      return undefined;
    }
  }
}
