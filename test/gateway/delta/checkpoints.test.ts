import { expect, it } from 'vitest';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import type { LayerDeltaHeader } from '../../../shared/delta/layer-delta/header.ts';
import type { Checkpoint } from '../../../shared/delta/layer-delta/segment-reader.ts';
import { noise } from '../../support/bytes.ts';
import { packed } from '../../support/encoding-delta.ts';
import { makeDelta, onlyLayerDelta } from '../../support/made-delta.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { putTinyImage } from '../../support/tiny-image.ts';

const RECIPE = 'gnu-gzip level=9 frame=1f8b0800000000000203';

/** Files of a version: programs that change a little, and pages that are compressed. */
async function version(n: number): Promise<Record<string, Buffer>> {
  const files: Record<string, Buffer> = {};
  for (let i = 0; i < 6; i += 1) {
    const program = noise(`program ${i}`, 50_000);
    program.write(`version ${n}`, 1000 * i);
    files[`bin/program-${i}`] = program;
    const page = `${noise(`page ${i}`, 3000).toString('hex')} of version ${n}`;
    files[`doc/page-${i}.gz`] = await packed(RECIPE, Buffer.from(page));
  }
  return files;
}

it('a delta is made with checkpoints at which a reader can go on', async (ctx) => {
  const folder = await temporaryFolder(ctx);
  const store = await LayoutStore.create(`${folder}/images`);
  const old = await version(1);
  await putTinyImage(store, [old], { tag: 'v1' });
  const target = await putTinyImage(store, [await version(2)], { tag: 'v2' });
  const recompress = { set: 1, memory: 128, lzma: '5.8.4' };
  const format = { kind: 'snapgate', recompress } as const;
  const sizes: number[] = [];
  for (const spacing of [1e9, 60_000]) {
    const checkpoints = { outputBytes: spacing, deltaBytes: 1 };
    const { manifest } = await makeDelta(store, folder, { format, checkpoints });
    const { delta, apply } = await onlyLayerDelta(store, manifest.digest, old);
    sizes.push(delta.length);
    if (spacing === 1e9) continue;
    const found: { checkpoint: Checkpoint; header: LayerDeltaHeader }[] = [];
    const onCheckpoint = (checkpoint: Checkpoint, header: LayerDeltaHeader) =>
      found.push({ checkpoint, header });
    const tar = Buffer.from(target.layers[0]?.tar ?? []);
    expect((await apply({ onCheckpoint })).equals(tar)).toBe(true);
    const positions = found.map(({ checkpoint }) => checkpoint.outputPosition);
    expect(positions.length).toBeGreaterThan(3);
    for (const [i, at] of positions.entries()) {
      expect(at - (positions[i - 1] ?? -spacing)).toBeGreaterThanOrEqual(spacing);
    }
    for (const resume of found) {
      const { deltaOffset, outputPosition } = resume.checkpoint;
      const rest = await apply({ resume }, deltaOffset);
      expect(rest.equals(tar.subarray(outputPosition))).toBe(true);
    }
  }
  const [without = 0, withThem = 0] = sizes;
  expect(withThem).toBeGreaterThan(without);
});
