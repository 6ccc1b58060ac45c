import { expect, it, type TestContext } from 'vitest';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { createRecompressor } from '../../../shared/delta/layer-delta/recompressor.ts';
import { noise } from '../../support/bytes.ts';
import { cpio } from '../../support/cpio.ts';
import { packed } from '../../support/encoding-delta.ts';
import { makeDelta, onlyLayerDelta } from '../../support/made-delta.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { putTinyImage } from '../../support/tiny-image.ts';

const RECIPE = 'gnu-gzip level=9 frame=1f8b0800000000000203';
const FORMAT = {
  kind: 'snapgate',
  recompress: { set: 1, memory: 128, lzma: '5.8.4' },
} as const;

/** A module of a version, packed. */
function driver(name: string, version: number): Promise<Buffer> {
  const text = noise(name, 4000).toString('hex');
  return packed(RECIPE, Buffer.from(`${text} of version ${version}`));
}

/** Modules of a version, and an archive of them with one that is nowhere else. */
async function version(n: number) {
  const modules = { 'a.gz': await driver('a', n), 'b.gz': await driver('b', n) };
  const kept = await driver('kept', 1);
  const own = await driver('own', n);
  const script = Buffer.from(`start ${n}\n`.repeat(20));
  const archive = cpio({
    ...{ 'lib/a.gz': modules['a.gz'], init: script, 'lib/kept.gz': kept },
    ...{ 'lib/b.gz': modules['b.gz'], 'lib/own.gz': own },
  });
  return { archive, modules: { ...modules, 'kept.gz': kept } };
}

function named(folder: string, files: Record<string, Buffer>): Record<string, Buffer> {
  return Object.fromEntries(Object.entries(files).map(([name, file]) => [folder + name, file]));
}

/** Makes and applies the delta of two versions; what it takes comes back. */
async function update(ctx: TestContext, initrd: string) {
  const folder = await temporaryFolder(ctx);
  const store = await LayoutStore.create(`${folder}/images`);
  const [old, fresh] = await Promise.all(
    [1, 2].map(async (n) => {
      const { archive, modules } = await version(n);
      const files = { ...named('lib/', modules), [initrd]: archive };
      return Object.fromEntries(Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1)));
    }),
  );
  if (old === undefined || fresh === undefined) throw new Error('no versions');
  await putTinyImage(store, [old], { tag: 'v1' });
  const target = await putTinyImage(store, [fresh], { tag: 'v2' });
  const { manifest } = await makeDelta(store, folder, { format: FORMAT });
  const encoders = createRecompressor({ maxMemoryBytes: 1 << 27 });
  let encoded = 0;
  const recompressor: typeof encoders = {
    unpack: (...args) => encoders.unpack(...args),
    encode: (...args) => {
      encoded += 1;
      return encoders.encode(...args);
    },
  };
  const { delta, apply } = await onlyLayerDelta(store, manifest.digest, old);
  const tar = Buffer.from(target.layers[0]?.tar ?? []);
  expect((await apply({ recompressor })).equals(tar)).toBe(true);
  return { encoded, bytes: delta.length };
}

it('members of an archive that are files of the image are copied', async (ctx) => {
  // Two modules and the archive's own; the one that did not change is copied from the source.
  expect((await update(ctx, 'boot/initrd')).encoded).toBe(3);
});

it('members whose files come before the archive are packed again', async (ctx) => {
  const { encoded, bytes } = await update(ctx, 'var/initrd');
  expect(encoded).toBe(5);
  expect(bytes).toBeLessThan(3000);
});
