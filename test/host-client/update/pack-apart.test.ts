import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { readLiblzma } from '../../../host-client/update/liblzma-file.ts';
import { xzApart, zstdApart } from '../../../host-client/update/pack-apart.ts';
import { parseRecipe } from '../../../shared/recompress/recipe.ts';
import { createXzEncoder } from '../../../shared/recompress/xz/encoder.ts';
import { builtInZstd, type ZstdSettings } from '../../../shared/recompress/zstd/encoder.ts';
import { collectBytes } from '../../support/tiny-image.ts';

const words = Array.from({ length: 64 }, () => randomBytes(5).toString('hex'));
const content = Buffer.from(
  Array.from({ length: 600_000 }, (_, i) => words[(i * i + (i >> 6)) % 64]).join(' '),
);

async function* chunks() {
  for (let at = 0; at < content.length; at += 100_000) yield content.subarray(at, at + 100_000);
}

const base = { level: 3, checksum: true, windowBytes: 2 ** 21 };
const settings: Readonly<Record<string, ZstdSettings>> = {
  'content of an unknown size': { ...base, workers: 0, contentSize: undefined },
  'content of a known size': { ...base, workers: 0, contentSize: content.length },
  'the multi-threaded mode': { ...base, workers: 1, contentSize: undefined },
};

it.each(Object.entries(settings))('packs in another process as in this one: %s', async (_, one) => {
  const apart = await collectBytes(zstdApart.pack(chunks(), one, content.length));
  expect(apart.equals(await collectBytes(builtInZstd.pack(chunks(), one, content.length)))).toBe(
    true,
  );
  expect(apart.length).toBeGreaterThan(1000);
});

it('leaves no process behind when nobody reads on', async () => {
  const settings = { ...base, workers: 0, contentSize: undefined };
  const packed = zstdApart.pack(chunks(), settings, content.length);
  for await (const bytes of packed) {
    expect(bytes.length).toBeGreaterThan(0);
    break;
  }
});

it.each([
  [1, 'in this one'],
  [32, 'in another process'],
])('packs xz with a dictionary of %i MiB %s, and alike', async (mebibytes) => {
  const recipe = parseRecipe(
    `xz check=1 blockSize=0 headerSize=12 sizes=0 filter=4 distance=0 dictionary=${mebibytes * 2 ** 20} lc=3 lp=0 pb=2 preset=6 extreme=0`,
  );
  const some = content.subarray(0, 300_000);
  const whole = {
    size: some.length,
    async *open() {
      for (let at = 0; at < some.length; at += 70_000) yield some.subarray(at, at + 70_000);
    },
  };
  const before = process.resourceUsage().maxRSS;
  const apart = await collectBytes(xzApart.pack(recipe, whole));
  // Nothing of what a dictionary takes is taken here.
  expect(process.resourceUsage().maxRSS - before).toBeLessThan(100 * 1024);
  expect(apart.subarray(0, 6)).toEqual(Buffer.from('fd377a585a00', 'hex'));
  const here = createXzEncoder(readLiblzma).pack(recipe, whole);
  expect(apart.equals(await collectBytes(here))).toBe(true);
});
