import { execFileSync } from 'node:child_process';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createEncoders, repack } from '../../../shared/recompress/encoders.ts';
import { unpackPart } from '../../../shared/recompress/formats.ts';
import { bytesSource } from '../../../shared/recompress/part.ts';
import { collect, contentIn, structuredBytes } from '../../support/bytes.ts';
import { hasProgram } from '../../support/has-program.ts';

const encoders = createEncoders();
const RECIPE = { encoder: 'zstd-parse', settings: {}, frame: new Uint8Array(0) };

function unpack(frame: Uint8Array): Promise<Buffer> {
  const part = { kind: 'packed', offset: 0, size: frame.length, format: 'zstd-parse' } as const;
  return collect(unpackPart(bytesSource(frame), part));
}

const pack = (both: Uint8Array, chunk?: number): Promise<Buffer> =>
  collect(repack(encoders, RECIPE, contentIn(both, chunk)));

function compress(content: Uint8Array, level: number, more: Record<number, number> = {}): Buffer {
  return zstdCompressSync(content, {
    params: { [constants.ZSTD_c_compressionLevel]: level, ...more },
  });
}

/** The frame comes out of what it was unpacked to, whose start is the content. */
async function expectAgain(frame: Buffer, content: Uint8Array, chunk?: number): Promise<void> {
  const both = await unpack(frame);
  expect(both.subarray(0, content.length).equals(content)).toBe(true);
  expect((await pack(both, chunk)).equals(frame)).toBe(true);
}

const code = Buffer.from(
  Array.from({ length: 40_000 }, (_, i) => `f${(i * i) % 977}(x${i % 13}, ${i % 257});\n`).join(''),
);

describe('a zstd frame of its content and its parse', () => {
  it.each([1, 3, 6, 9, 12, 13, 15, 17, 19, 20, 22])('is made again at level %i', (level) =>
    expectAgain(compress(code, level, { [constants.ZSTD_c_checksumFlag]: 1 }), code, 7001),
  );

  it('is made again whatever it holds', async () => {
    await fc.assert(
      fc.asyncProperty(structuredBytes(300_000), fc.integer({ min: -5, max: 22 }), (bytes, level) =>
        expectAgain(compress(bytes, level), bytes),
      ),
      { numRuns: 60 },
    );
  });

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['blocks of one byte', Buffer.alloc(500_000, 'a')],
    [
      'blocks as they are',
      Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * i * i) >> 7)),
    ],
    ['long runs of literals', Buffer.concat([code.subarray(0, 70_000), Buffer.alloc(140_000, 1)])],
  ])('is made again of %s', (_, content) => expectAgain(compress(content, 19), content));

  it('is made again of far matches, with any settings', () =>
    expectAgain(
      compress(Buffer.concat([code, Buffer.alloc(3_000_000, 'x'), code]), 1, {
        [constants.ZSTD_c_enableLongDistanceMatching]: 1,
        [constants.ZSTD_c_windowLog]: 25,
        [constants.ZSTD_c_minMatch]: 3,
        [constants.ZSTD_c_targetLength]: 4,
        [constants.ZSTD_c_contentSizeFlag]: 0,
      }),
      Buffer.concat([code, Buffer.alloc(3_000_000, 'x'), code]),
    ));

  it('is made again of what the zstd program packed', async (ctx) => {
    ctx.skip(!hasProgram('zstd'), 'zstd is not installed');
    for (const args of [['-4'], ['-T2', '-18'], ['--ultra', '-22', '--long=27'], ['--fast=3']]) {
      const frame = execFileSync('zstd', ['-c', ...args], { input: code, maxBuffer: 2 ** 24 });
      await expectAgain(frame, code);
    }
  });

  it('takes little memory, whatever the level was', () => {
    const cost = encoders.get('zstd-parse')?.cost(RECIPE, 2 ** 30);
    expect(cost?.memoryBytes).toBeLessThan(16 * 1024 ** 2);
  });
});

describe('a parse that is written by hand', () => {
  it('makes a frame that zstd unpacks to the content', async () => {
    const header = Buffer.from('28b52ffd0048', 'hex');
    const content = Buffer.from(`as it is${'r'.repeat(300)}literalsabcabcabcabcend`);
    // 23 bytes in the last block: 8 and 3 literals, a match of 9 at offset 3, and 3 literals.
    const parse = Buffer.concat([
      Buffer.from([header.length]),
      header,
      Buffer.from([0, 8]),
      Buffer.from([1, 0xac, 0x02]),
      // Compressed and last; raw literals; one sequence, 3 literals after it; predefined tables.
      Buffer.from([2 + 4, 0, 1, 3, 0, 0]),
      Buffer.from([11, 9 - 3, 3 + 3, 0, 0, 0]),
    ]);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(parse.length);
    const frame = await pack(Buffer.concat([content, parse, length]));
    expect(zstdDecompressSync(frame).equals(content)).toBe(true);
    expect((await unpack(frame)).equals(Buffer.concat([content, parse, length]))).toBe(true);
  });
});

describe('what is no content with its parse', () => {
  it('is refused, or gives other bytes, no more than it has itself', async () => {
    const frame = compress(code.subarray(0, 20_000), 19);
    const both = await unpack(frame);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(both.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
        // Most changes belong where the parse is.
        fc.integer({ min: 0, max: 20_000 }),
        async (changes, from) => {
          const changed = Buffer.from(both);
          for (const [at, byte] of changes) changed[Math.max(at, from)] = byte;
          const end = await pack(changed).catch((error: unknown) => error);
          if (Buffer.isBuffer(end)) expect(end.length).toBeLessThan(2 * both.length);
          else expect(end).toMatchObject({ code: 'DELTA_INVALID' });
        },
      ),
      { numRuns: 400 },
    );
  });

  it.each([
    ['is cut short', (both: Buffer) => both.subarray(1)],
    ['is empty', () => Buffer.alloc(0)],
    ['has a parse longer than itself', () => Buffer.from([1, 2, 3, 255, 255, 255, 255])],
    ['has content that is left over', (both: Buffer) => Buffer.concat([both.subarray(0, 9), both])],
    [
      'has no last block',
      (both: Buffer) => Buffer.concat([both.subarray(0, -4), Buffer.alloc(4, 0)]),
    ],
  ])('is refused when it %s', async (_, change) => {
    const both = await unpack(compress(code, 3));
    await expect(pack(change(both))).rejects.toMatchObject({ code: 'DELTA_INVALID' });
  });

  it('has no settings', async () => {
    const recipe = { ...RECIPE, settings: { level: 3 } };
    await expect(collect(repack(encoders, recipe, contentIn(code)))).rejects.toMatchObject({
      code: 'DELTA_INVALID',
    });
  });
});
