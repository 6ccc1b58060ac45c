import type { Content } from './encoder.ts';

/** Random access to bytes that stand somewhere: a file, a buffer. A `SourceFile` is one. */
export type ByteSource = {
  /** Size in bytes. */
  readonly size: number;
  /** Reads into `target` from `offset`; returns how many bytes were read, 0 at the end. */
  read(target: Uint8Array, offset: number): number;
};

/** Kinds of compressed stream that can be taken apart; `zstd-parse` is `zstd`, unpacked with its parse. */
export const PACKED_FORMATS = ['gzip', 'xz', 'zstd', 'lz4-legacy', 'zstd-parse'] as const;
export type PackedFormat = (typeof PACKED_FORMATS)[number];

/**
 * A run of a file. The parts of a file tile it: each begins where the one before ends, and none is
 * empty. `name` is the path of a file inside an archive, relative and without `.` or `..`, given to
 * each part of that file's content.
 */
export type Part = RawPart | PackedPart;

export type RawPart = {
  readonly kind: 'raw';
  readonly offset: number;
  readonly size: number;
  readonly name?: string;
};

/** One whole compressed stream: a gzip member, an xz stream, a zstd frame, a legacy LZ4 frame. */
export type PackedPart = {
  readonly kind: 'packed';
  readonly offset: number;
  readonly size: number;
  readonly format: PackedFormat;
  readonly name?: string;
};

/** What is accepted when compressed content is opened; what is beyond is left as it is. */
export type UnpackLimits = {
  /** Most bytes that one stream may unpack to. */
  readonly maxUnpackedBytes: number;
  /** Most times its packed size that one stream may unpack to, once beyond a mebibyte. */
  readonly maxRatio: number;
  /** Most parts of one file. */
  readonly maxParts: number;
  /** Largest window or dictionary, in bytes. */
  readonly maxWindowBytes: number;
};

export const DEFAULT_UNPACK_LIMITS: UnpackLimits = {
  maxUnpackedBytes: 1024 ** 3,
  maxRatio: 1000,
  maxParts: 100_000,
  maxWindowBytes: 128 * 1024 ** 2,
};

/** Bytes in memory as a source. */
export function bytesSource(bytes: Uint8Array): ByteSource {
  return {
    size: bytes.length,
    read(target, offset) {
      const part = bytes.subarray(offset, offset + target.length);
      target.set(part);
      return part.length;
    },
  };
}

/** What a source holds, as content to be packed; `onRead` takes the size of what was read and used. */
export function contentOf(source: ByteSource, onRead?: (bytes: number) => void): Content {
  async function* open(from = 0): AsyncGenerator<Uint8Array> {
    for (const bytes of readChunks(source, from, source.size - from)) {
      yield bytes;
      onRead?.(bytes.length);
    }
  }
  return { size: source.size, open };
}

/** Up to `size` bytes of `source` from `offset`, in a buffer of their own. */
export function readBytes(source: ByteSource, offset: number, size: number): Uint8Array {
  const target = new Uint8Array(Math.max(0, Math.min(size, source.size - offset)));
  let filled = 0;
  while (filled < target.length) {
    const count = source.read(target.subarray(filled), offset + filled);
    if (count <= 0) break;
    filled += count;
  }
  return target.subarray(0, filled);
}

/** Streams `size` bytes of `source` from `offset`; each chunk is a buffer of its own. */
export function* readChunks(
  source: ByteSource,
  offset: number,
  size: number,
  chunk = 256 * 1024,
): Generator<Uint8Array> {
  const end = Math.min(source.size, offset + size);
  for (let at = offset; at < end; ) {
    const bytes = readBytes(source, at, Math.min(chunk, end - at));
    if (bytes.length === 0) return;
    yield bytes;
    at += bytes.length;
  }
}
