import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createEncoders, recipeCost, repack } from '../../../shared/recompress/encoders.ts';
import { formatRecipe, parseRecipe } from '../../../shared/recompress/recipe.ts';
import { collect, contentIn } from '../../support/bytes.ts';

const encoders = createEncoders();

describe('a recipe', () => {
  it('is text that reads back', () => {
    const text = 'gnu-gzip level=9 frame=1f8b0800000000000203';
    const recipe = parseRecipe(text);
    expect(recipe).toMatchObject({ encoder: 'gnu-gzip', settings: { level: 9 } });
    expect(formatRecipe(recipe)).toBe(text);
    expect(formatRecipe(parseRecipe('lz4hc level=9'))).toBe('lz4hc level=9');
  });

  it('reads back whatever it is', () => {
    const names = fc.constantFrom('level', 'blockSize', 'x');
    const settings = fc.dictionary(names, fc.nat(), { noNullPrototype: true });
    fc.assert(
      fc.property(settings, fc.uint8Array({ maxLength: 40 }), (values, frame) => {
        const recipe = { encoder: 'zstd-1.5.7', settings: values, frame };
        expect(parseRecipe(formatRecipe(recipe))).toEqual(recipe);
      }),
    );
  });

  it.for([
    '',
    ' ',
    'Gzip level=9',
    'gnu-gzip level=9 level=9',
    'gnu-gzip  level=9',
    'gnu-gzip level=09',
    'gnu-gzip level=-1',
    'gnu-gzip level=1e3',
    'gnu-gzip level=9 frame=1f8',
    'gnu-gzip frame=1f8b level=9',
    'gnu-gzip frame=',
    'gnu-gzip __proto__=1',
    `gnu-gzip frame=${'00'.repeat(40_000)}`,
  ])('is refused when malformed: %s', (text) => {
    expect(() => parseRecipe(text)).toThrow(expect.objectContaining({ code: 'DELTA_INVALID' }));
  });

  it('is refused by encoders that this machine does not have', () => {
    const recipe = parseRecipe('zstd-0.1.2 level=9 workers=1 frame=28b52ffd0460');
    expect(() => recipeCost(encoders, recipe, 10)).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED' }),
    );
  });

  it.for([
    'lz4hc level=2',
    'lz4hc level=9 x=1',
    `zstd-${process.versions.zstd} level=9 workers=2 frame=28b52ffd0460`,
    `zstd-${process.versions.zstd} level=9 workers=1`,
    'xz level=9',
    'xz check=2 blockSize=0 headerSize=20 sizes=1 filter=0 distance=0 dictionary=1048576 lc=3 lp=0 pb=2 preset=6 extreme=0',
    'xz check=1 blockSize=0 headerSize=20 sizes=1 filter=0 distance=0 dictionary=1048577000 lc=3 lp=0 pb=2 preset=6 extreme=0',
    'xz check=1 blockSize=0 headerSize=20 sizes=1 filter=3 distance=0 dictionary=1048576 lc=3 lp=0 pb=2 preset=6 extreme=0',
    'xz check=1 blockSize=0 headerSize=21 sizes=1 filter=0 distance=0 dictionary=1048576 lc=3 lp=0 pb=2 preset=6 extreme=0',
    'xz check=1 blockSize=0 headerSize=8 sizes=1 filter=0 distance=0 dictionary=1048576 lc=3 lp=0 pb=2 preset=6 extreme=0',
    'xz check=1 blockSize=0 headerSize=20 sizes=1 filter=0 distance=0 dictionary=1048576 lc=4 lp=4 pb=2 preset=6 extreme=0',
  ])('is refused with impossible settings: %s', async (text) => {
    const pack = collect(repack(encoders, parseRecipe(text), contentIn(Buffer.from('content'))));
    await expect(pack).rejects.toMatchObject({ code: 'DELTA_INVALID' });
  });
});
