import { describe, expect, it } from 'vitest';
import { describeContent } from '../../../gateway/delta/describe.ts';
import { resemblance } from '../../../gateway/delta/sketch.ts';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { noise } from '../../support/bytes.ts';
import { makeDelta } from '../../support/made-delta.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { putTinyImage } from '../../support/tiny-image.ts';

function sketchOf(content: Buffer): Uint32Array {
  const read = (target: Uint8Array, offset: number) => {
    target.set(content.subarray(offset, offset + target.length));
  };
  return describeContent(read, 0, content.length).sketch;
}

/** A file that has a quarter of another, and one sample of 16 in common with it. */
function sharingOneSample(old: Buffer): Buffer {
  for (let seed = 0; seed < 200; seed += 1) {
    const shared = old.subarray(seed * 150, seed * 150 + 10_000);
    const fresh = Buffer.concat([noise(`${seed}`, 30_000), shared]);
    if (resemblance(sketchOf(old), sketchOf(fresh)) === 1 / 16) return fresh;
  }
  throw new RangeError('no such file');
}

describe('the choice of a source', () => {
  it('finds one of another name by a single sample', async (ctx) => {
    const dir = await temporaryFolder(ctx);
    const store = await LayoutStore.create(`${dir}/images`);
    const old = noise('old', 40_000);
    await putTinyImage(store, [{ 'usr/bin/tool': old }], { tag: 'v1' });
    await putTinyImage(store, [{ 'usr/lib/other.so': sharingOneSample(old) }], { tag: 'v2' });
    const made = await makeDelta(store, dir, { format: { kind: 'snapgate' } });
    expect(made.layers[0]?.bytes).toBeLessThan(30_000 + 1000);
  });
});
