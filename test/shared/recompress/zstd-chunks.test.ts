import { constants, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { bytesSource } from '../../../shared/recompress/part.ts';
import { builtInZstd } from '../../../shared/recompress/zstd/encoder.ts';
import { readZstdFrame } from '../../../shared/recompress/zstd/frame.ts';
import { collectBytes } from '../../support/tiny-image.ts';

const content = Buffer.from(Array.from({ length: 40_000 }, (_, i) => (i * i) % 977).join(' '));

async function* chunks(size: number) {
  for (let at = 0; at < content.length; at += size) yield content.subarray(at, at + size);
}

it.each([undefined, content.length])(
  'packs one frame, in whatever chunks (size: %s)',
  async (contentSize) => {
    const settings = { level: 3, workers: 0, checksum: true, windowBytes: 2 ** 21, contentSize };
    const whole = await collectBytes(
      builtInZstd.pack(chunks(content.length), settings, content.length),
    );
    const frame = readZstdFrame(bytesSource(whole), 0);
    expect(frame?.size).toBe(whole.length);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1000, max: 100_000 }), async (size) => {
        const packed = await collectBytes(builtInZstd.pack(chunks(size), settings, content.length));
        expect(packed.equals(whole)).toBe(true);
      }),
      { numRuns: 30, examples: [[7777], [16_384]] },
    );
  },
);

it.each([20, 22])('packs in the multi-threaded mode as one call does: level %i', async (level) => {
  // Below half a mebibyte there is no such mode.
  const long = Buffer.concat([0, 1, 2, 3, 4, 5].map((seed) => content.map((byte) => byte ^ seed)));
  async function* open() {
    for (let at = 0; at < long.length; at += 77_777) yield long.subarray(at, at + 77_777);
  }
  const settings = { level, workers: 1, checksum: true, windowBytes: 2 ** 21 };
  const unknown = { ...settings, contentSize: undefined };
  const packed = await collectBytes(builtInZstd.pack(open(), unknown, long.length));
  const params = {
    [constants.ZSTD_c_compressionLevel]: level,
    [constants.ZSTD_c_checksumFlag]: 1,
    [constants.ZSTD_c_nbWorkers]: 1,
  };
  expect(packed.equals(zstdCompressSync(long, { params }))).toBe(true);
});
