import { createHash } from 'node:crypto';
import { expect, it } from 'vitest';
import { withHeaders } from '../../../gateway/delta/layer-headers.ts';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { readDelta } from '../../../gateway/plan/read-delta.ts';
import type { LayerDeltaHeader } from '../../../shared/delta/layer-delta/header.ts';
import { applyLayerDelta } from '../../../shared/delta/layer-delta/reader.ts';
import { createRecompressor } from '../../../shared/delta/layer-delta/recompressor.ts';
import type { Checkpoint } from '../../../shared/delta/layer-delta/segment-reader.ts';
import { MEMORY_WORKSPACE } from '../../../shared/delta/workspace.ts';
import { packed } from '../../support/encoding-delta.ts';
import { imageSide, makeDelta, memoryTree } from '../../support/made-delta.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { collectBytes, putTinyImage } from '../../support/tiny-image.ts';

const RECIPE = 'gnu-gzip level=9 frame=1f8b0800000000000203';

function noise(seed: string, length: number): Buffer {
  return createHash('shake256', { outputLength: length }).update(seed).digest();
}

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
    const { parts } = await readDelta(store, manifest.digest);
    const [part] = [...parts.values()];
    if (part === undefined) throw new Error('no part');
    sizes.push(part.size);
    if (spacing === 1e9) continue;
    const delta = await collectBytes(store.openBlob(part));
    const source = await imageSide(store, 'v1');
    const files = memoryTree(new Map(Object.entries(old)));
    const tree = withHeaders(files, { reader: store, image: source }, MEMORY_WORKSPACE);
    const apply = async (
      from: number,
      more: Partial<Parameters<typeof applyLayerDelta>[1]> = {},
    ): Promise<Buffer> => {
      async function* chunks() {
        yield delta.subarray(from);
      }
      const recompressor = createRecompressor({ maxMemoryBytes: 1 << 27 });
      const options = { source: tree, workspace: MEMORY_WORKSPACE, recompressor, ...more };
      const out: Buffer[] = [];
      for await (const { bytes } of applyLayerDelta(chunks(), options))
        out.push(Buffer.from(bytes));
      return Buffer.concat(out);
    };
    const found: { checkpoint: Checkpoint; header: LayerDeltaHeader }[] = [];
    const onCheckpoint = (checkpoint: Checkpoint, header: LayerDeltaHeader) =>
      found.push({ checkpoint, header });
    const tar = Buffer.from(target.layers[0]?.tar ?? []);
    expect((await apply(0, { onCheckpoint })).equals(tar)).toBe(true);
    const positions = found.map(({ checkpoint }) => checkpoint.outputPosition);
    expect(positions.length).toBeGreaterThan(3);
    for (const [i, at] of positions.entries()) {
      expect(at - (positions[i - 1] ?? -spacing)).toBeGreaterThanOrEqual(spacing);
    }
    for (const resume of found) {
      const { deltaOffset, outputPosition } = resume.checkpoint;
      const rest = await apply(deltaOffset, { resume });
      expect(rest.equals(tar.subarray(outputPosition))).toBe(true);
    }
  }
  const [without = 0, withThem = 0] = sizes;
  expect(withThem).toBeGreaterThan(without);
});
