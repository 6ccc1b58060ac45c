import { Readable } from 'node:stream';
import { constants, createZstdDecompress } from 'node:zlib';
import { SnapgateError } from '../errors.ts';
import { invalidDelta } from './layer-delta/bytes.ts';
import type { Piece, SourceTree } from './piece.ts';
import { type TarDiffLimits, TarDiffOperations } from './tar-diff-operations.ts';
import { TAR_DIFF_MAGIC } from './tar-diff-writer.ts';

export const DEFAULT_TAR_DIFF_LIMITS: TarDiffLimits = {
  maxPathBytes: 4096,
  maxAddDataBytes: 100 * 1024 * 1024,
  maxOutputBytes: 64 * 1024 ** 3,
  maxWindowLog: 25,
};

const CHUNK = 128 * 1024;

/**
 * Applies a tar-diff of version 1: yields the rebuilt tar stream, with the place of what was copied
 * unchanged. Pieces share one buffer, which the next piece overwrites. The source tree stays open.
 * Throws DELTA_INVALID, DELTA_SOURCE_MISMATCH, LIMIT_EXCEEDED, and what reading `delta` throws.
 */
export async function* applyTarDiff(
  delta: AsyncIterable<Uint8Array>,
  source: SourceTree,
  limits: TarDiffLimits = DEFAULT_TAR_DIFF_LIMITS,
): AsyncGenerator<Piece, void, void> {
  const operations = new TarDiffOperations(source, limits);
  for await (const chunk of unpack(delta, limits)) {
    for (const piece of operations.take(chunk)) yield piece;
  }
  for (const piece of operations.finish()) yield piece;
}

/** Checks the magic number and unpacks the one zstd frame after it. */
async function* unpack(
  delta: AsyncIterable<Uint8Array>,
  limits: TarDiffLimits,
): AsyncGenerator<Buffer, void, void> {
  const zstd = createZstdDecompress({
    chunkSize: CHUNK,
    params: { [constants.ZSTD_d_windowLogMax]: limits.maxWindowLog },
  });
  const fed = { bytes: 0, all: false };
  const input = Readable.from(withoutMagic(delta, fed), { objectMode: false });
  input.on('error', (error) => zstd.destroy(error));
  try {
    for await (const chunk of input.pipe(zstd)) yield chunk as Buffer;
    // The decoder stops without a word at the end of the frame.
    if (!fed.all || zstd.bytesWritten !== fed.bytes)
      throw invalidDelta('bytes follow the end of the delta');
  } catch (thrown) {
    if (thrown instanceof SnapgateError) throw thrown;
    const code = (thrown as NodeJS.ErrnoException).code ?? '';
    if (/windowTooLarge|memory_allocation/i.test(code)) {
      throw new SnapgateError('LIMIT_EXCEEDED', 'the delta needs too large a window', {
        cause: thrown,
      });
    }
    throw new SnapgateError('DELTA_INVALID', 'the delta is not a valid zstd stream', {
      cause: thrown,
    });
  } finally {
    input.destroy();
    zstd.destroy();
  }
}

async function* withoutMagic(
  delta: AsyncIterable<Uint8Array>,
  fed: { bytes: number; all: boolean },
): AsyncGenerator<Uint8Array, void, void> {
  let head: Buffer = Buffer.alloc(0);
  for await (const chunk of delta) {
    if (head.length >= TAR_DIFF_MAGIC.length) {
      fed.bytes += chunk.length;
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    if (head.length < TAR_DIFF_MAGIC.length) continue;
    if (!head.subarray(0, TAR_DIFF_MAGIC.length).equals(TAR_DIFF_MAGIC)) {
      throw invalidDelta('the delta does not start as a tar-diff of version 1 does');
    }
    fed.bytes = head.length - TAR_DIFF_MAGIC.length;
    if (fed.bytes > 0) yield head.subarray(TAR_DIFF_MAGIC.length);
  }
  if (head.length < TAR_DIFF_MAGIC.length) throw invalidDelta('the delta is cut off');
  fed.all = true;
}
