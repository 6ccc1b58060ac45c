import { Readable } from 'node:stream';
import { createGunzip, createInflateRaw, gunzipSync, inflateRawSync } from 'node:zlib';
import type { Format } from '../format.ts';
import { bounded } from '../format.ts';
import { type ByteSource, readBytes, readChunks, type UnpackLimits } from '../part.ts';
import type { Recipe } from '../recipe.ts';
import { GZIP_TRAILER_SIZE, readGzipHeader } from './header.ts';

/** Streams, and contents, up to this size are inflated in one call, which is many times faster. */
const SMALL = 256 * 1024;
/** Content of less is no bomb, in bytes. */
const LEAST_BOMB = 2 ** 20;

async function inflatedSize(
  source: ByteSource,
  offset: number,
  limits: UnpackLimits,
): Promise<number> {
  const left = source.size - offset;
  if (left <= SMALL) {
    const { engine } = inflateRawSync(readBytes(source, offset, left), {
      info: true,
      maxOutputLength: Math.min(limits.maxUnpackedBytes, Math.max(2 ** 20, left * limits.maxRatio)),
    }) as unknown as { engine: { bytesWritten: number } };
    return engine.bytesWritten;
  }
  const inflate = createInflateRaw({ chunkSize: SMALL });
  const input = Readable.from(readChunks(source, offset, left));
  input.once('error', (error) => inflate.destroy(error));
  const content = bounded(input.pipe(inflate), left, limits);
  let size = 0;
  for await (const { length } of content) {
    size += length;
    // By what was read so far: a file of many such streams would take long before it is refused.
    if (size > Math.max(LEAST_BOMB, inflate.bytesWritten * limits.maxRatio)) {
      inflate.destroy();
      throw new RangeError('the stream unpacks to too much');
    }
  }
  input.destroy();
  return inflate.bytesWritten;
}

/** Whether a gzip member says that it has little content; the size is its last field. */
function isSmall(packed: Uint8Array): boolean {
  if (packed.length < GZIP_TRAILER_SIZE) return false;
  return Buffer.from(packed.subarray(packed.length - 4)).readUInt32LE() <= SMALL;
}

/** An iteration of which some results were taken already. */
function* continued<T>(taken: readonly IteratorResult<T>[], rest: Iterator<T>): Generator<T> {
  for (const result of taken) if (result.done !== true) yield result.value;
  for (let next = rest.next(); next.done !== true; next = rest.next()) yield next.value;
}

/** gzip members (RFC 1952). */
export const gzipFormat: Format = {
  name: 'gzip',

  async measure(source, offset, limits) {
    const header = readGzipHeader(source, offset);
    if (header === undefined) return undefined;
    try {
      const start = offset + header.length;
      const size = await inflatedSize(source, start, limits);
      const end = start + size + GZIP_TRAILER_SIZE;
      return end > source.size ? undefined : end - offset;
    } catch {
      return undefined;
    }
  },

  async *unpack(open) {
    const chunks = open()[Symbol.iterator]();
    const first = chunks.next();
    const second = chunks.next();
    if (first.done !== true && second.done === true && isSmall(first.value)) {
      yield gunzipSync(first.value, { maxOutputLength: SMALL });
      return;
    }
    const all = Readable.from(continued([first, second], chunks));
    yield* all.pipe(createGunzip({ chunkSize: SMALL }));
  },

  propose(source, part) {
    const frame = readGzipHeader(source, part.offset);
    if (frame === undefined) return [];
    return likelyLevels(frame[8] ?? 0).flatMap((level) => [
      { encoder: 'gnu-gzip', settings: { level }, frame },
      ...[8, 9].map((memoryLevel) => ({
        encoder: 'zlib',
        settings: { level, memoryLevel },
        frame,
      })),
    ]) satisfies Recipe[];
  },
};

/** Levels by the header's extra flags: 2 for the slowest, 4 for the fastest (RFC 1952, 2.3.1). */
function likelyLevels(extraFlags: number): number[] {
  if (extraFlags === 2) return [9, 8, 6];
  if (extraFlags === 4) return [1, 2];
  return [6, 9, 5, 7, 8, 4, 3, 2, 1];
}
