import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { openXzPacker, openXzUnpacker } from '../../../../shared/delta/layer-delta/xz-coder.ts';
import { noise } from '../../../support/sample-layer-delta.ts';
import { simpleUnxz } from '../../../support/simple-lzma.ts';

const TEXT = Buffer.from('what is said in a manual page, again and again. '.repeat(100));

const opened: { close(): void }[] = [];
afterEach(() => {
  for (const coder of opened.splice(0)) coder.close();
});
function kept<T extends { close(): void }>(coder: T): T {
  opened.push(coder);
  return coder;
}

async function packed(...pieces: Buffer[]): Promise<Buffer[]> {
  const packer = kept(openXzPacker(20));
  const all: Buffer[] = [];
  for (const piece of pieces) all.push(Buffer.from(await packer.pack(piece)));
  return all;
}

describe('streams packed by LZMA', () => {
  it('come out piece by piece, in both readers', async () => {
    const run = fc.record({ seed: fc.nat(3), size: fc.integer({ min: 1, max: 300_000 }) });
    const piece = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 2000 }).map((bytes) => Buffer.from(bytes)),
      run.map(({ seed, size }) => noise(size, seed)),
      run.map(({ seed, size }) => Buffer.alloc(size, seed)),
    );
    const pieces = fc.array(piece, { minLength: 1, maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(pieces, fc.constantFrom(20, 22, 23), async (all, log) => {
        const packer = openXzPacker(log);
        const unpacker = openXzUnpacker(log);
        try {
          const stream: Uint8Array[] = [];
          for (const bytes of all) {
            const part = await packer.pack(bytes);
            stream.push(part);
            expect(bytes.equals(await unpacker.unpack(part, bytes.length))).toBe(true);
          }
          expect(simpleUnxz(Buffer.concat(stream)).equals(Buffer.concat(all))).toBe(true);
        } finally {
          packer.close();
          unpacker.close();
        }
      }),
      { numRuns: 40 },
    );
  });

  it.each([
    ['more', -1],
    ['fewer', 1],
  ])('are refused when they hold %s bytes than they should', async (_, more) => {
    const [one] = await packed(TEXT);
    const unpacker = kept(openXzUnpacker(20));
    await expect(unpacker.unpack(one as Buffer, TEXT.length + more)).rejects.toMatchObject({
      code: 'DELTA_INVALID',
    });
  });

  it('are refused cut off and damaged anywhere, or held to be what they say', async () => {
    const [one] = (await packed(TEXT)) as [Buffer];
    for (let at = 0; at < one.length; at += 1) {
      const damaged = Buffer.from(one);
      damaged[at] = (damaged[at] as number) ^ 0x55;
      const unpacked = kept(openXzUnpacker(20)).unpack(damaged, TEXT.length);
      const cut = kept(openXzUnpacker(20)).unpack(one.subarray(0, at), TEXT.length);
      const [found, short] = await Promise.allSettled([unpacked, cut]);
      if (found.status === 'fulfilled') expect(found.value).toHaveLength(TEXT.length);
      else expect(found.reason).toMatchObject({ code: expect.stringMatching(/INVALID|EXCEEDED/) });
      expect(short).toMatchObject({ status: 'rejected', reason: { code: 'DELTA_INVALID' } });
      for (const coder of opened.splice(0)) coder.close();
    }
  });

  it('are refused when they take a larger dictionary than is declared', async () => {
    const packer = kept(openXzPacker(23));
    const bytes = await packer.pack(TEXT);
    await expect(kept(openXzUnpacker(20)).unpack(bytes, TEXT.length)).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
  });

  it('are refused when they are xz of another kind', async () => {
    const [one] = (await packed(TEXT)) as [Buffer];
    const checked = Buffer.from(one);
    checked[7] = 1;
    checked.writeUInt32LE(crc32(checked.subarray(6, 8)), 8);
    const refused = kept(openXzUnpacker(20)).unpack(checked, TEXT.length);
    await expect(refused).rejects.toMatchObject({
      code: 'DELTA_INVALID',
      message: expect.stringContaining('another kind'),
    });
  });

  it('are refused when they end', async () => {
    const [one] = (await packed(TEXT)) as [Buffer];
    // The end of the block, its index of no sizes that fit, and the rest of the stream's end.
    const end = Buffer.concat([one, Buffer.alloc(1)]);
    const padding = Buffer.alloc((4 - (end.length % 4)) % 4);
    const number = (value: number) => {
      const digits: number[] = [];
      for (let left = value; ; left = Math.floor(left / 128)) {
        if (left < 128) return [...digits, left];
        digits.push((left % 128) + 128);
      }
    };
    const records = [0, 1, ...number(end.length - 12), ...number(TEXT.length)];
    while (records.length % 4 !== 0) records.push(0);
    const checksum = (bytes: Buffer) => {
      const sum = Buffer.alloc(4);
      sum.writeUInt32LE(crc32(bytes));
      return sum;
    };
    const index = Buffer.from(records);
    const footer = Buffer.alloc(6);
    footer.writeUInt32LE(index.length / 4);
    const whole = Buffer.concat([
      ...[end, padding, index, checksum(index), checksum(footer), footer, Buffer.from('YZ')],
    ]);
    const refused = kept(openXzUnpacker(20)).unpack(whole, TEXT.length);
    await expect(refused).rejects.toMatchObject({
      code: 'DELTA_INVALID',
      message: expect.stringContaining('ends'),
    });
  });
});
