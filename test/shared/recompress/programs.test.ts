import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { analyse } from '../../../shared/recompress/analyse.ts';
import { createEncoders } from '../../../shared/recompress/encoders.ts';
import { unpackPart } from '../../../shared/recompress/formats.ts';
import { bytesSource } from '../../../shared/recompress/part.ts';
import { findRecipe } from '../../../shared/recompress/prove.ts';
import type { Recipe } from '../../../shared/recompress/recipe.ts';
import { collect, inChunks, structuredBytes } from '../../support/bytes.ts';

const encoders = createEncoders();
const budget = { maxMemoryBytes: 2 ** 30 };
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'recompress-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function missing(program: string): boolean {
  return spawnSync(program, ['--version']).status !== 0;
}

function packWith(program: string, args: readonly string[], content: Uint8Array): Buffer {
  const file = join(folder, 'content');
  writeFileSync(file, content);
  return execFileSync(program, [...args, '-c', file], { maxBuffer: 1 << 28 });
}

/** Opens a file of one stream, checks its content, and finds how to make it again. */
async function recipeFor(packed: Uint8Array, content: Uint8Array): Promise<Recipe | undefined> {
  const source = bytesSource(packed);
  const [part, ...others] = await analyse(source);
  if (part?.kind !== 'packed') throw new Error('the stream was not found');
  expect(others).toEqual([]);
  expect(part).toMatchObject({ offset: 0, size: packed.length });
  expect((await collect(unpackPart(source, part))).equals(content)).toBe(true);
  const again = { size: content.length, open: () => inChunks(content, 65_536) };
  return findRecipe(encoders, source, part, again, budget);
}

const text = readFileSync(new URL('../../../package-lock.json', import.meta.url));
const machineCode = readFileSync(process.execPath).subarray(1_000_000, 1_700_000);
const contents = [
  Buffer.from('a'),
  text,
  machineCode,
  Buffer.concat([Buffer.alloc(300_000), text, Buffer.alloc(65_536, 'ab'), machineCode]),
];

describe('xz', () => {
  it.for([
    ['--check=crc32 --lzma2=dict=1MiB -T2', { sizes: 1, preset: 6, extreme: 0, check: 1 }],
    ['-6', { preset: 6, extreme: 0, check: 4, sizes: 0, blockSize: 0 }],
    ['-T2 --block-size=500KiB', { blockSize: 512_000, sizes: 1 }],
    ['--block-size=500KiB -T1', { blockSize: 512_000, sizes: 0 }],
    ['-3 --check=sha256', { preset: 3, check: 10 }],
    ['-0 --check=none', { preset: 0, check: 0 }],
    ['-5e', { preset: 5, extreme: 1 }],
    ['--x86 --lzma2=preset=6,lc=2,lp=1,pb=0', { filter: 4, lc: 2, lp: 1, pb: 0 }],
    ['--delta=dist=4 --lzma2=preset=2', { filter: 3, distance: 4, preset: 2 }],
  ] as const)('is matched with %s', async ([args, settings], ctx) => {
    ctx.skip(missing('xz'), 'xz is not installed');
    for (const content of contents.slice(1)) {
      const recipe = await recipeFor(packWith('xz', args.split(' '), content), content);
      const { blockSize = 0 } = settings as { blockSize?: number };
      const expected = blockSize > content.length ? { ...settings, blockSize: 0 } : settings;
      expect(recipe).toMatchObject({ encoder: 'xz', settings: expected });
    }
  });
});

describe('lz4', () => {
  it('is matched at levels 3 to 9', async (ctx) => {
    ctx.skip(missing('lz4'), 'lz4 is not installed');
    for (const level of [3, 6, 9]) {
      for (const content of contents) {
        const packed = packWith('lz4', ['-l', '-q', `-${level}`], content);
        expect(await recipeFor(packed, content)).toMatchObject({ encoder: 'lz4hc' });
      }
    }
  });

  it('is matched on any input', async (ctx) => {
    ctx.skip(missing('lz4'), 'lz4 is not installed');
    const inputs = structuredBytes(200_000).filter((bytes) => bytes.length > 0);
    await fc.assert(
      fc.asyncProperty(inputs, async (content) => {
        const packed = packWith('lz4', ['-l', '-q', '-9'], content);
        expect(await recipeFor(packed, content)).toMatchObject({ settings: { level: 9 } });
      }),
      { numRuns: 60 },
    );
  });
});

describe('the zstd of Node.js', () => {
  it('is matched by the recipe that its frame suggests', async () => {
    const [, , , content = text] = contents;
    const packed = zstdCompressSync(content, { params: { 100: 9, 201: 1 } });
    const name = `zstd-${process.versions.zstd}`;
    expect(await recipeFor(packed, content)).toMatchObject({
      encoder: name,
      settings: { level: 9 },
    });
  });
});

describe('zstd 1.5.2 to 1.5.4', () => {
  const version = spawnSync('zstd', ['--version'], { encoding: 'utf8' }).stdout ?? '';
  const other = !/v1\.5\.[234]\b/.test(version);

  it('is matched at its lazy levels', async (ctx) => {
    ctx.skip(other, 'zstd 1.5.2 to 1.5.4 is not installed');
    for (const level of [6, 8, 9, 11]) {
      const content = contents[3] as Buffer;
      const packed = execFileSync('zstd', ['-q', '-c', `-${level}`], { input: content });
      expect(await recipeFor(packed, content)).toMatchObject({
        encoder: 'zstd-lazy-1.5.4',
        settings: { level },
      });
    }
  });

  it('is matched on any input', async (ctx) => {
    ctx.skip(other, 'zstd 1.5.2 to 1.5.4 is not installed');
    const inputs = structuredBytes(400_000).filter((bytes) => bytes.length > 0);
    await fc.assert(
      fc.asyncProperty(inputs, async (content) => {
        const packed = execFileSync('zstd', ['-q', '-c', '-9'], { input: content });
        expect(await recipeFor(packed, content)).toMatchObject({ encoder: 'zstd-lazy-1.5.4' });
      }),
      { numRuns: 60 },
    );
  });
});
