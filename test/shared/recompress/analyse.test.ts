import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { analyse } from '../../../shared/recompress/analyse.ts';
import { createEncoders, repack } from '../../../shared/recompress/encoders.ts';
import { unpackPart } from '../../../shared/recompress/formats.ts';
import {
  bytesSource,
  DEFAULT_UNPACK_LIMITS,
  type PackedPart,
  type Part,
} from '../../../shared/recompress/part.ts';
import { collect, contentIn } from '../../support/bytes.ts';
import { cpio } from '../../support/cpio.ts';

const encoders = createEncoders();
const none = new Uint8Array(0);

function packXz(content: Uint8Array): Promise<Buffer> {
  const settings = {
    ...{ check: 1, blockSize: 0, headerSize: 20, sizes: 1, filter: 0, distance: 0 },
    ...{ dictionary: 2 ** 20, lc: 3, lp: 0, pb: 2, preset: 6, extreme: 0 },
  };
  return collect(repack(encoders, { encoder: 'xz', settings, frame: none }, contentIn(content)));
}

function packLz4(content: Uint8Array): Promise<Buffer> {
  const recipe = { encoder: 'lz4hc', settings: { level: 9 }, frame: none };
  return collect(repack(encoders, recipe, contentIn(content)));
}

function bzImage(payload: Uint8Array): Buffer {
  const image = Buffer.alloc(2048);
  image[0x1f1] = 1;
  image.writeUInt16LE(0xaa55, 0x1fe);
  image.write('HdrS', 0x202);
  image.writeUInt16LE(0x020f, 0x206);
  image.writeUInt32LE(1024, 0x248);
  image.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([image, payload, Buffer.from('what follows the payload')]);
}

function expectTiling(parts: readonly Part[], size: number): void {
  let end = 0;
  for (const part of parts) {
    expect(part.offset).toBe(end);
    expect(part.size).toBeGreaterThan(0);
    end += part.size;
  }
  expect(end).toBe(size);
}

const text = Buffer.from('The quick brown fox jumps over the lazy dog. '.repeat(100));

describe('analyse', () => {
  it('finds gzip members one after the other, and what follows them', async () => {
    const [one, two] = [gzipSync(text), gzipSync('other')];
    const file = Buffer.concat([one, two, Buffer.from('end')]);
    expect(await analyse(bytesSource(file))).toEqual([
      { kind: 'packed', offset: 0, size: one.length, format: 'gzip' },
      { kind: 'packed', offset: one.length, size: two.length, format: 'gzip' },
      { kind: 'raw', offset: one.length + two.length, size: 3 },
    ]);
  });

  it('opens an initrd: an archive with modules, zeros, then a packed archive', async () => {
    const module = await packXz(text);
    const early = cpio({ 'lib/a.ko.xz': module, './etc/motd': text, '../odd': text });
    const inner = cpio({ init: text });
    const packed = zstdCompressSync(inner);
    const file = Buffer.concat([early, Buffer.alloc(512), packed]);
    const source = bytesSource(file);
    const parts = await analyse(source);
    expectTiling(parts, file.length);
    expect(parts.filter((part) => part.name !== undefined)).toMatchObject([
      { kind: 'packed', format: 'xz', size: module.length, name: 'lib/a.ko.xz' },
      { kind: 'raw', size: text.length, name: 'etc/motd' },
    ]);
    const last = parts.at(-1) as PackedPart;
    expect(last).toMatchObject({ kind: 'packed', format: 'zstd', size: packed.length });
    const content = await collect(unpackPart(source, last));
    expect(content.equals(inner)).toBe(true);
    expect(await analyse(bytesSource(content))).toMatchObject([{}, { name: 'init' }, {}]);
  });

  it('finds the payload of a kernel image and leaves its size behind it alone', async () => {
    for (const stream of [await packLz4(text), gzipSync(text), await packXz(text)]) {
      const size = Buffer.alloc(4);
      size.writeUInt32LE(text.length);
      const source = bytesSource(bzImage(Buffer.concat([stream, size])));
      const parts = await analyse(source);
      expectTiling(parts, source.size);
      expect(parts.map((part) => part.kind)).toEqual(['raw', 'packed', 'raw']);
      expect(parts[1]).toMatchObject({ offset: 2048, size: stream.length });
      expect((await collect(unpackPart(source, parts[1] as PackedPart))).equals(text)).toBe(true);
    }
  });

  it('leaves alone what is damaged, cut short or too much', async () => {
    const streams = [gzipSync(text), zstdCompressSync(text), await packXz(text)];
    for (const stream of streams) {
      const cut = stream.subarray(0, stream.length - 5);
      expect(await analyse(bytesSource(cut))).toMatchObject([{ kind: 'raw', size: cut.length }]);
    }
    const bomb = gzipSync(Buffer.alloc(20_000_000));
    expect(await analyse(bytesSource(bomb))).toMatchObject([{ kind: 'raw' }]);
    const bombs = await packXz(Buffer.alloc(20_000_000));
    expect(await analyse(bytesSource(bombs))).toMatchObject([{ kind: 'raw' }]);
    const wide = zstdCompressSync(Buffer.alloc(10), { params: { 100: 3 } });
    const limits = { ...DEFAULT_UNPACK_LIMITS, maxWindowBytes: 8 };
    expect(await analyse(bytesSource(wide), limits)).toMatchObject([{ kind: 'raw' }]);
  });

  it('ends unpacking where content becomes too much', async () => {
    const bomb = zstdCompressSync(Buffer.alloc(50_000_000));
    const part = { kind: 'packed', offset: 0, size: bomb.length, format: 'zstd' } as const;
    const unpacked = collect(unpackPart(bytesSource(bomb), part));
    await expect(unpacked).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });

  it('keeps to the number of parts', async () => {
    const files = Object.fromEntries(Array.from({ length: 100 }, (_, n) => [`f${n}`, text]));
    const file = cpio(files);
    const limits = { ...DEFAULT_UNPACK_LIMITS, maxParts: 20 };
    const parts = await analyse(bytesSource(file), limits);
    expect(parts.length).toBeLessThanOrEqual(20);
    expectTiling(parts, file.length);
  });

  it('tiles any file, however its bytes were changed', async () => {
    const whole = [
      Buffer.concat([cpio({ a: gzipSync(text) }), Buffer.alloc(8), zstdCompressSync(text)]),
      Buffer.concat([await packXz(text), await packLz4(text)]),
      bzImage(await packLz4(text)),
    ];
    const changes = fc.array(fc.tuple(fc.nat(3000), fc.nat(255)), { maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...whole), changes, fc.nat(50), async (file, list, cut) => {
        const bytes = Buffer.from(file.subarray(0, file.length - cut));
        for (const [at, value] of list) bytes[at % bytes.length] = value;
        const source = bytesSource(bytes);
        const parts = await analyse(source);
        expectTiling(parts, bytes.length);
        for (const part of parts) {
          if (part.kind === 'packed')
            await collect(unpackPart(source, part)).catch(() => undefined);
        }
      }),
      { numRuns: 300 },
    );
  });
});
