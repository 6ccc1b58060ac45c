import { createHash } from 'node:crypto';
import { zstdDecompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { createEncoders, repack } from '../../../shared/recompress/encoders.ts';
import { parseRecipe } from '../../../shared/recompress/recipe.ts';
import { collect, contentIn } from '../../support/bytes.ts';
import { generatedContent } from '../../support/generated.ts';

/**
 * What the programs themselves made of the same content, once, so that the encoders are held to it
 * where the programs are not installed: gzip 1.12, xz 5.4.1, lz4 1.9.4, zstd 1.5.4
 * and 1.5.7.
 */
const encoders = createEncoders();
const large = generatedContent(20_000_000, 7);
const small = large.subarray(0, 2_000_000);
const XZ_SETTINGS =
  'blockSize=0 headerSize=20 sizes=1 filter=0 distance=0 dictionary=1048576 lc=3 lp=0 pb=2';

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const packed = (text: string, content: Uint8Array) =>
  collect(repack(encoders, parseRecipe(text), contentIn(content, 100_001)));

describe('what the programs made', () => {
  it.for([
    [
      'gnu-gzip level=9 frame=1f8b0800000000000203',
      'eb8a9c7656a3c3b983d71b11fb6188190b5f14ce0609428698c853961ca37136',
    ],
    ['lz4hc level=9', '4f9d71edaf7a4fc313435a10a8bc29f9c5ce289df0128feb2835eedc9837369f'],
    [
      `xz check=1 ${XZ_SETTINGS} preset=6 extreme=0`,
      '741ae0a44bf15cf56fbab26a059012cd88984d87cd5200b411bb43969c9b3064',
    ],
  ] as const)('comes out again: %s', async ([recipe, digest]) => {
    expect(sha256(await packed(recipe, small))).toBe(digest);
  });

  it.for([
    [6, '28b52ffd0458', '485cbc4b0bab201ae1f5810b00c41ed64e3cb90cd28c4eaa82cee981818f7917'],
    [9, '28b52ffd0460', '1e8896b551640a536ce0ba5f089b2c2adef0a9debb7827f363a9e20fa87faec9'],
    [12, '28b52ffd0460', 'a1b8db20e9c6a8b614cbd076a8af1c2776633a74f2b686b8a7947e6212ba564c'],
  ] as const)('comes out again of several jobs of zstd -%i', async ([level, frame, digest]) => {
    const frameOf = await packed(`zstd-lazy-1.5.4 level=${level} frame=${frame}`, large);
    expect(zstdDecompressSync(frameOf).equals(large)).toBe(true);
    expect(sha256(frameOf)).toBe(digest);
  });

  it.for([
    [3, '28b52ffd0458', '5c54315dc1435dc5999d47b8649884128ea2bcece0bc810a08a45225d7bf8252'],
    [9, '28b52ffd0460', 'c570c7a03066e7dc83d957f450da3c4df4f66d6495c979080289e69015154d99'],
  ] as const)('comes out again of Node.js like zstd -%i', async ([level, frame, digest], ctx) => {
    ctx.skip(process.versions.zstd !== '1.5.7', 'Node.js has another zstd than 1.5.7');
    const frameOf = await packed(`zstd-1.5.7 level=${level} workers=1 frame=${frame}`, large);
    expect(sha256(frameOf)).toBe(digest);
  });

  it('comes out again of Node.js like zstd --ultra -22, of a size not known', async (ctx) => {
    ctx.skip(process.versions.zstd !== '1.5.7', 'Node.js has another zstd than 1.5.7');
    const pack = (frame: string) =>
      packed(`zstd-1.5.7 level=22 workers=1 frame=28b52ffd04${frame}`, small);
    const long = await pack('88');
    expect(sha256(long)).toBe('0bdbc917f5a213b53d24ee170399446c3473b290dbe1cb9c43b7cfc1c91ee434');
    // With a smaller window zstd does not look for matches at long distances.
    expect(sha256((await pack('80')).subarray(6))).not.toBe(sha256(long.subarray(6)));
  });
});
