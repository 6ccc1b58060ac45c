import { type ByteSource, readBytes } from '../part.ts';
import { MAX_BLOCK } from './block.ts';

/** A zstd frame (RFC 8878, section 3.1.1), read without unpacking it. */
export type ZstdFrame = {
  readonly size: number;
  readonly header: Uint8Array;
  /** Bytes that a decoder must keep. */
  readonly windowBytes: number;
  readonly contentSize: number | undefined;
  /** Whether the window is the whole content, whatever the level. */
  readonly single: boolean;
  readonly checksum: boolean;
};

const MAGIC = 0xfd2fb528;
const MAX_HEADER = 18;
const CONTENT_SIZE_BYTES = [0, 2, 4, 8] as const;
const DICTIONARY_ID_BYTES = [0, 1, 2, 4] as const;

/** How long a frame's header is, by its descriptor, which is the fifth byte. */
export function zstdHeaderLength(descriptor: number): number {
  const single = (descriptor & 0x20) !== 0;
  const sizeBytes = CONTENT_SIZE_BYTES[descriptor >> 6] || (single ? 1 : 0);
  return 5 + (single ? 0 : 1) + (DICTIONARY_ID_BYTES[descriptor & 3] ?? 0) + sizeBytes;
}

/** The header of the frame at the start of `bytes`, without the frame's size. */
export function readZstdHeader(bytes: Uint8Array): Omit<ZstdFrame, 'size'> | undefined {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.length < 6 || view.readUInt32LE() !== MAGIC) return undefined;
  const descriptor = view[4] ?? 0;
  const single = (descriptor & 0x20) !== 0;
  // A reserved bit, and dictionaries, which no file of an image needs.
  if ((descriptor & 0x08) !== 0 || (descriptor & 3) !== 0) return undefined;
  const length = zstdHeaderLength(descriptor);
  if (view.length < length) return undefined;
  const sizeAt = single ? 5 : 6;
  const contentSize = readContentSize(view, sizeAt, length - sizeAt);
  const window = view[5] ?? 0;
  const base = 2 ** (10 + (window >> 3));
  return {
    header: view.subarray(0, length),
    windowBytes: single ? (contentSize ?? 0) : base + (base / 8) * (window & 7),
    contentSize,
    single,
    checksum: (descriptor & 0x04) !== 0,
  };
}

function readContentSize(view: Buffer, at: number, bytes: number): number | undefined {
  if (bytes === 0) return undefined;
  if (bytes === 8) return Number(view.readBigUInt64LE(at));
  return view.readUIntLE(at, bytes) + (bytes === 2 ? 256 : 0);
}

/** The frame at `offset`; undefined where there is none that is whole. */
export function readZstdFrame(source: ByteSource, offset: number): ZstdFrame | undefined {
  const frame = readZstdHeader(readBytes(source, offset, MAX_HEADER));
  if (frame === undefined) return undefined;
  let at = offset + frame.header.length;
  for (let last = false; !last; ) {
    const [b0 = 0, b1 = 0, b2] = readBytes(source, at, 3);
    if (b2 === undefined) return undefined;
    const field = b0 | (b1 << 8) | (b2 << 16);
    const type = (field >> 1) & 3;
    const size = field >> 3;
    if (type === 3 || size > MAX_BLOCK) return undefined;
    at += 3 + (type === 1 ? 1 : size);
    last = (field & 1) === 1;
  }
  if (frame.checksum) at += 4;
  return at > source.size ? undefined : { ...frame, size: at - offset };
}

/** Of what the start of content packs to, the half that does not change when more follows. */
export function certainHalf(blocks: Uint8Array): Uint8Array {
  return blocks.subarray(0, blocks.length >> 1);
}
