import { constants, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { unpackZstdFrames } from '../../shared/zstd-frames.ts';

async function* cut(bytes: Uint8Array, length: number) {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

async function unpack(bytes: Uint8Array, length: number, windowLog = 27): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of unpackZstdFrames(cut(bytes, length), windowLog)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const skippable = Buffer.concat([Buffer.from('502a4d1805000000', 'hex'), Buffer.from('12345')]);

describe('unpackZstdFrames', () => {
  it('unpacks all frames, wherever chunks end', async () => {
    const part = fc.oneof(fc.uint8Array({ maxLength: 500 }), fc.constant(undefined));
    await fc.assert(
      fc.asyncProperty(
        fc.array(part, { maxLength: 6 }),
        fc.integer({ min: 1, max: 90 }),
        async (parts, size) => {
          const frames = parts.map((p) => (p === undefined ? skippable : zstdCompressSync(p)));
          const whole = Buffer.concat(parts.map((p) => p ?? Buffer.alloc(0)));
          expect(await unpack(Buffer.concat(frames), size)).toEqual(whole);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('unpacks frames larger than a chunk of output', async () => {
    const frame = zstdCompressSync(Buffer.alloc(3_000_000, 'long'));
    const out = await unpack(Buffer.concat([frame, frame]), 1000);
    expect(out.equals(Buffer.alloc(6_000_000, 'long'))).toBe(true);
  });

  it('refuses frames that are cut off, and what is no frame', async () => {
    const frame = zstdCompressSync(Buffer.from('content'));
    await expect(unpack(frame.subarray(0, -1), 8)).rejects.toThrow();
    await expect(unpack(Buffer.concat([frame, frame.subarray(0, 6)]), 99)).rejects.toThrow();
    await expect(unpack(Buffer.concat([frame, Buffer.from('garbage')]), 99)).rejects.toThrow();
  });

  it('refuses a window that is too large', async () => {
    const params = { [constants.ZSTD_c_windowLog]: 24 };
    const frame = zstdCompressSync(Buffer.alloc(9_000_000), { params });
    await expect(unpack(frame, 1000, 20)).rejects.toThrow('too much memory');
  });

  it('passes an error of the source on, and ends the source when it is left', async () => {
    let left = false;
    const frame = zstdCompressSync(Buffer.alloc(3_000_000));
    async function* body(fails: boolean) {
      try {
        for (;;) {
          yield frame;
          if (fails) throw new Error('line cut');
        }
      } finally {
        left = true;
      }
    }
    const drain = async () => {
      for await (const _ of unpackZstdFrames(body(true), 27));
    };
    await expect(drain()).rejects.toThrow('line cut');
    left = false;
    for await (const _ of unpackZstdFrames(body(false), 27)) break;
    expect(left).toBe(true);
  });
});
