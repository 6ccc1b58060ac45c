import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { type Digest, digestFromHex } from '../digest.ts';
import { SnapgateError } from '../errors.ts';
import { unpackZstdFrames } from '../zstd-frames.ts';
import type { Descriptor } from './manifest.ts';
import { layerCompression } from './media-types.ts';

/** What is accepted from a packed layer. */
export type UnpackLimits = {
  /** Longest tar stream in bytes: a packed layer of a few bytes can unpack to any size. */
  readonly maxBytes: number;
  /** Base-2 logarithm of the largest zstd window; a window is held in memory. */
  readonly maxWindowLog: number;
};

export const DEFAULT_UNPACK_LIMITS: UnpackLimits = { maxBytes: 64 * 1024 ** 3, maxWindowLog: 27 };

/**
 * Unpacks a layer's blob to its tar stream. At the end its sha256 must be `diffId`. Throws
 * DIFF_ID_MISMATCH, LIMIT_EXCEEDED, TAR_INVALID when it cannot be unpacked, and what `body` throws.
 */
export async function* unpackLayer(
  body: AsyncIterable<Uint8Array>,
  blob: Pick<Descriptor, 'digest' | 'mediaType'>,
  diffId: Digest,
  limits: UnpackLimits = DEFAULT_UNPACK_LIMITS,
): AsyncGenerator<Uint8Array, void, void> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of unpack(body, blob, limits)) {
    size += chunk.byteLength;
    if (size > limits.maxBytes) {
      throw new SnapgateError('LIMIT_EXCEEDED', `layer ${blob.digest} unpacks to too much`, {
        hint: `The limit is ${limits.maxBytes} bytes.`,
      });
    }
    hash.update(chunk);
    yield chunk;
  }
  if (digestFromHex(hash.digest('hex')) === diffId) return;
  throw new SnapgateError('DIFF_ID_MISMATCH', `layer ${blob.digest} is not ${diffId}`);
}

async function* unpack(
  body: AsyncIterable<Uint8Array>,
  blob: Pick<Descriptor, 'digest' | 'mediaType'>,
  limits: UnpackLimits,
): AsyncGenerator<Uint8Array, void, void> {
  const kind = layerCompression(blob.mediaType);
  try {
    if (kind === 'none') yield* body;
    else if (kind === 'gzip') yield* gunzip(body);
    else if (kind === 'zstd') yield* unpackZstdFrames(body, limits.maxWindowLog);
    else throw new SnapgateError('TAR_INVALID', `a layer is of type ${blob.mediaType}`);
  } catch (thrown) {
    throw unpackError(thrown, blob.digest);
  }
}

async function* gunzip(body: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer, void, void> {
  const unpacker = createGunzip({ chunkSize: 256 * 1024 });
  const packed = Readable.from(body, { objectMode: false });
  packed.on('error', (error) => unpacker.destroy(error));
  try {
    for await (const chunk of packed.pipe(unpacker)) yield chunk as Buffer;
  } finally {
    packed.destroy();
    unpacker.destroy();
  }
}

/** Errors of the decoders say nothing of the layer; those of the reader pass as they are. */
function unpackError(thrown: unknown, digest: Digest): unknown {
  const code = (thrown as NodeJS.ErrnoException).code ?? '';
  if (thrown instanceof SnapgateError || !/^(Z_|ZSTD_|ERR_ZSTD|ERR_ZLIB)/.test(code)) return thrown;
  if (/windowTooLarge|memory_allocation/i.test(code)) {
    return new SnapgateError('LIMIT_EXCEEDED', `layer ${digest} needs too large a window`, {
      cause: thrown,
    });
  }
  return new SnapgateError('TAR_INVALID', `layer ${digest} cannot be unpacked`, { cause: thrown });
}
