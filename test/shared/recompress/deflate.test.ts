import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEncoders, repack } from '../../../shared/recompress/encoders.ts';
import type { Recipe } from '../../../shared/recompress/recipe.ts';
import { collect, contentIn, structuredBytes } from '../../support/bytes.ts';

const encoders = createEncoders();
let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'deflate-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function missing(program: string): boolean {
  return spawnSync(program, ['--version']).status !== 0;
}

/** GNU gzip reads a file in whole windows, a pipe in whatever pieces it comes. */
function gzip(level: number, content: Uint8Array): Buffer {
  const file = join(folder, 'content');
  writeFileSync(file, content);
  return execFileSync('gzip', [`-${level}`, '-n', '-c', file], { maxBuffer: 1 << 30 });
}

const ZLIB = `
import sys, zlib, struct
level, memory = int(sys.argv[1]), int(sys.argv[2])
data = sys.stdin.buffer.read()
packer = zlib.compressobj(level, zlib.DEFLATED, 31, memory)
sys.stdout.buffer.write(packer.compress(data) + packer.flush())
`;

function zlib(level: number, memoryLevel: number, content: Uint8Array): Buffer {
  const args = ['-c', ZLIB, String(level), String(memoryLevel)];
  return execFileSync('python3', args, { input: content, maxBuffer: 1 << 30 });
}

async function packed(recipe: Omit<Recipe, 'frame'>, like: Buffer, content: Uint8Array) {
  const whole = { ...recipe, frame: like.subarray(0, 10) };
  return collect(repack(encoders, whole, contentIn(content, 70_000)));
}

/** Real content of several windows: text, and machine code. */
const source = readFileSync(new URL('../../../package-lock.json', import.meta.url));
const realContents = () => [
  Buffer.alloc(0),
  Buffer.from('a'),
  source,
  readFileSync(process.execPath).subarray(1_000_000, 1_600_000),
  Buffer.concat([Buffer.alloc(300_000), source, Buffer.alloc(65_536, 'ab')]),
];

describe('GNU gzip', () => {
  it.for([1, 2, 3, 4, 5, 6, 7, 8, 9])('is matched bit for bit at level %i', async (level, ctx) => {
    ctx.skip(missing('gzip'), 'gzip is not installed');
    for (const content of realContents()) {
      const expected = gzip(level, content);
      const actual = await packed({ encoder: 'gnu-gzip', settings: { level } }, expected, content);
      expect(actual.equals(expected)).toBe(true);
    }
  });

  it('is matched on any input', async (ctx) => {
    ctx.skip(missing('gzip'), 'gzip is not installed');
    const inputs = fc.tuple(structuredBytes(200_000), fc.integer({ min: 1, max: 9 }));
    await fc.assert(
      fc.asyncProperty(inputs, async ([content, level]) => {
        const expected = gzip(level, content);
        const recipe = { encoder: 'gnu-gzip', settings: { level } };
        expect((await packed(recipe, expected, content)).equals(expected)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });
});

describe('zlib', () => {
  it('is matched at all levels and memory levels', async (ctx) => {
    ctx.skip(missing('python3'), 'python3 is not installed');
    for (const [level, memoryLevel] of [
      ...[1, 3, 4, 6, 9].map((level) => [level, 8] as const),
      ...[1, 9].map((memoryLevel) => [6, memoryLevel] as const),
    ]) {
      for (const content of realContents()) {
        const expected = zlib(level, memoryLevel, content);
        const recipe = { encoder: 'zlib', settings: { level, memoryLevel } };
        expect((await packed(recipe, expected, content)).equals(expected)).toBe(true);
      }
    }
  });

  it('is matched on any input', async (ctx) => {
    ctx.skip(missing('python3'), 'python3 is not installed');
    const inputs = fc.tuple(structuredBytes(150_000), fc.integer({ min: 1, max: 9 }));
    await fc.assert(
      fc.asyncProperty(inputs, async ([content, level]) => {
        const expected = zlib(level, 8, content);
        const recipe = { encoder: 'zlib', settings: { level, memoryLevel: 8 } };
        expect((await packed(recipe, expected, content)).equals(expected)).toBe(true);
      }),
      { numRuns: 15 },
    );
  });
});

describe('both', () => {
  it('write what unpacks to the content, however it is cut', async () => {
    const frame = Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3);
    const names = fc.constantFrom(
      { encoder: 'gnu-gzip', settings: { level: 9 } },
      { encoder: 'gnu-gzip', settings: { level: 1 } },
      { encoder: 'zlib', settings: { level: 6, memoryLevel: 8 } },
    );
    const inputs = fc.tuple(structuredBytes(150_000), names, fc.integer({ min: 1, max: 99_999 }));
    await fc.assert(
      fc.asyncProperty(inputs, async ([content, recipe, chunk]) => {
        const whole = await collect(repack(encoders, { ...recipe, frame }, contentIn(content)));
        const cut = await collect(
          repack(encoders, { ...recipe, frame }, contentIn(content, chunk)),
        );
        expect(cut.equals(whole)).toBe(true);
        expect(gunzipSync(whole).equals(content)).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it.for([
    { encoder: 'gnu-gzip', settings: { level: 0 } },
    { encoder: 'gnu-gzip', settings: { level: 10 } },
    { encoder: 'gnu-gzip', settings: { level: 9, memoryLevel: 8 } },
    { encoder: 'zlib', settings: { level: 9 } },
    { encoder: 'zlib', settings: { level: 9, memoryLevel: 10 } },
  ])('refuse what they do not know: %o', async (recipe) => {
    const pack = collect(
      repack(encoders, { ...recipe, frame: new Uint8Array(0) }, contentIn(source)),
    );
    await expect(pack).rejects.toMatchObject({ code: 'DELTA_INVALID' });
  });
});
