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
    const whole = await collectBytes(builtInZstd.pack(chunks(content.length), settings));
    const frame = readZstdFrame(bytesSource(whole), 0);
    expect(frame?.size).toBe(whole.length);
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1000, max: 100_000 }), async (size) => {
        const packed = await collectBytes(builtInZstd.pack(chunks(size), settings));
        expect(packed.equals(whole)).toBe(true);
      }),
      { numRuns: 30, examples: [[7777], [16_384]] },
    );
  },
);
