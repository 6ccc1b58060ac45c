import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { readDelta } from '../../../gateway/plan/read-delta.ts';
import { readBounds, readTarBytes } from '../../../shared/delta/annotations.ts';
import { sha256 } from '../../../shared/digest.ts';
import { TAR_DIFF } from '../../../shared/oci/media-types.ts';
import { noise } from '../../support/bytes.ts';
import { memoryTree } from '../../support/layer-delta.ts';
import { applyParts, makeDelta } from '../../support/made-delta.ts';
import { putTinyImage, type TinyFiles, tarOf } from '../../support/tiny-image.ts';

let dir: string;
let store: LayoutStore;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-create-'));
  store = await LayoutStore.create(join(dir, 'images'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** The same bytes with every 500th changed and some put in at the front. */
function revised(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  for (let i = 0; i < copy.length; i += 500) copy[i] = (copy[i] ?? 0) + 1;
  return Buffer.concat([Buffer.from('a line more\n'), copy]);
}

const BASE = { etc: { type: 'directory' }, 'etc/motd': 'hello' } as const;
const APP = noise('app', 300_000);
const LIBRARY = noise('library', 200_000);

/** Makes the delta and applies it to the files given as the source's merged root. */
async function roundTrip(
  v1: readonly TinyFiles[],
  v2: readonly TinyFiles[],
  root: Record<string, Buffer>,
  packing: 'gzip' | 'zstd' | 'none' = 'gzip',
) {
  await putTinyImage(store, v1, { tag: 'v1', packing });
  const target = await putTinyImage(store, v2, { tag: 'v2', packing });
  const created = await makeDelta(store, dir);
  const tree = memoryTree({ files: root });
  const rebuilt = await applyParts(store, created.manifest.digest, tree);
  for (const layer of target.layers) {
    const bytes = rebuilt.get(layer.digest);
    if (bytes === undefined || sha256(bytes) === layer.digest) continue;
    expect(bytes.equals(layer.tar)).toBe(true);
  }
  expect(await readdir(dir)).toEqual(['images']);
  return { created, target, rebuilt };
}

describe('createDelta', () => {
  it.each(['gzip', 'zstd', 'none'] as const)(
    'rebuilds the layers of images packed with %s',
    async (packing) => {
      const { created, target } = await roundTrip(
        [BASE, { app: APP, 'lib-1.0.so': LIBRARY }],
        [BASE, { app: revised(APP), 'lib-1.1.so': revised(LIBRARY), copy: LIBRARY }],
        { app: APP, 'lib-1.0.so': LIBRARY, 'etc/motd': Buffer.from('hello') },
        packing,
      );
      expect(created.layers.map((layer) => layer.kind)).toEqual(['reused', 'delta']);
      // About 1000 bytes differ; what moved with the version and what was copied costs nothing.
      expect(created.layers[1]?.bytes).toBeLessThan(6000);
      expect(created.fullBytes).toBeGreaterThan(500_000);
      expect(created.deltaBytes).toBeLessThan(10_000);
      expect((await readDelta(store, 'delta')).facts.target).toBe(target.stored.digest);
    },
  );

  it('states in its manifest what a reader must know before it parses', async () => {
    const { created, target } = await roundTrip(
      [BASE, { app: APP }],
      [BASE, { app: revised(APP), small: 'x' }],
      { app: APP, 'etc/motd': Buffer.from('hello') },
    );
    const { manifest, facts } = await readDelta(store, created.manifest.digest);
    expect(facts.bytes).toBe(created.deltaBytes);
    expect(readBounds(manifest)).toEqual({
      ...{ format: 'tar-diff', temporaryBytes: 0, windowBytes: 2 ** 19 },
      wireBytes: created.deltaBytes - created.manifest.bytes.length,
      installedBytes: Math.ceil((APP.length + 12) / 4096) * 4096 + 4096,
    });
    const part = manifest.layers.find((layer) => layer.mediaType === TAR_DIFF);
    expect(part === undefined ? undefined : readTarBytes(part)).toBe(target.layers[1]?.tar.length);
    const note = (name: string) =>
      manifest.annotations?.[`io.github.containers.delta.${name}`] ?? '';
    expect(JSON.parse(note('reused'))).toEqual([target.layers[0]?.digest]);
    expect(JSON.parse(note('reused-diff-id'))).toEqual([target.layers[0]?.diffId]);
    expect(manifest.subject?.digest).toBe(target.stored.digest);
  });

  it('copies from what is left of all layers, not from what they hide', async () => {
    const hidden = { 'gone/a': APP, 'opaque/b': LIBRARY, replaced: noise('old', 5000) };
    const upper = { '.wh.gone': '', 'opaque/.wh..wh..opq': '', replaced: noise('new', 5000) };
    const { created } = await roundTrip(
      [BASE, hidden, upper],
      [BASE, { a: APP, b: LIBRARY, replaced: noise('new', 5000), other: noise('old', 5000) }],
      { 'etc/motd': Buffer.from('hello'), replaced: noise('new', 5000) },
    );
    expect(created.layers[1]?.bytes).toBeGreaterThan(APP.length + LIBRARY.length + 5000);
  });

  it('takes hard links as sources by each of their names', async () => {
    const link = { type: 'link', linkname: 'one/app' } as const;
    const { created } = await roundTrip(
      [{ 'one/app': APP, two: link }, { '.wh.one': '' }],
      [{ 'three/app': APP, four: { type: 'link', linkname: 'three/app' } }],
      { two: APP },
    );
    expect(created.deltaBytes).toBeLessThan(5000);
  });

  it('takes layers on another parent for nothing, and one that occurs twice once', async () => {
    const top = { app: APP };
    const added = { added: revised(APP) };
    const { created } = await roundTrip([BASE, top], [BASE, added, top, added, { last: 'x' }], {
      app: APP,
      'etc/motd': Buffer.from('hello'),
    });
    const kinds = created.layers.map((layer) => layer.kind);
    expect(kinds.slice(0, 4)).toEqual(['reused', 'delta', 'reparented', 'reparented']);
  });

  it('sends a layer as it is where a delta would be larger', async () => {
    const { created, target, rebuilt } = await roundTrip(
      [BASE, { app: APP }],
      [BASE, { random: noise('random', 50_000) }, { app: revised(APP) }],
      { app: APP, 'etc/motd': Buffer.from('hello') },
      'zstd',
    );
    const [, random, app] = created.layers;
    expect([random?.kind, app?.kind]).toEqual(['full', 'delta']);
    const original = target.layers[1];
    expect(random?.bytes).toBe(original?.size);
    const packed = rebuilt.get(original?.digest ?? '') ?? Buffer.alloc(0);
    expect(zstdDecompressSync(packed).equals(original?.tar ?? packed)).toBe(true);
  });

  it.each([{ kind: 'tar-diff' }, { kind: 'snapgate' }] as const)(
    'takes layers that end with their last content, as $kind',
    async (format) => {
      const cut = async (files: TinyFiles, size: number) => {
        const tar = await tarOf(files);
        return tar.subarray(0, tar.lastIndexOf('ustar') - 257 + 512 + size);
      };
      const [short, changed] = [await cut({ app: APP }, APP.length), revised(APP)];
      await putTinyImage(store, [BASE, short], { tag: 'v1' });
      const next = [BASE, await cut({ app: changed }, changed.length), { app: APP }];
      await putTinyImage(store, next, { tag: 'v2' });
      // What is made was applied and compared before it was written.
      const { layers } = await makeDelta(store, dir, { format });
      expect(layers.map((layer) => layer.kind)).toEqual(['reused', 'delta', 'delta']);
    },
  );

  it('finds files that were renamed by what is in them', async () => {
    const { created } = await roundTrip(
      [{ 'opt/alpha': APP, 'opt/beta': LIBRARY }],
      [{ 'srv/gamma': revised(LIBRARY), 'srv/delta': revised(APP) }],
      { 'opt/alpha': APP, 'opt/beta': LIBRARY },
    );
    expect(created.deltaBytes).toBeLessThan(8000);
  });
});

describe('createDelta refuses', () => {
  it('a delta that is not smaller than pulling', async () => {
    await putTinyImage(store, [{ app: 'a' }], { tag: 'v1' });
    await putTinyImage(store, [{ other: noise('b', 100) }], { tag: 'v2' });
    await expect(makeDelta(store, dir)).rejects.toMatchObject({ code: 'DELTA_REFUSED' });
    expect(await store.listTags()).not.toContain('delta');
    expect(await readdir(dir)).toEqual(['images']);
  });

  it('images between which no layer travels', async () => {
    await putTinyImage(store, [{ app: APP }], { tag: 'v1' });
    await putTinyImage(store, [{ app: APP }, { app: APP }], { tag: 'v2', architecture: 'arm64' });
    await expect(makeDelta(store, dir)).rejects.toMatchObject({ code: 'DELTA_REFUSED' });
  });

  it.each([
    ['an absolute path', { '/etc/shadow': 'x' }],
    ['a path upwards', { '../x': 'x' }],
  ])('%s in either image', async (_, files) => {
    for (const [v1, v2] of [
      [files, { app: revised(APP) }],
      [{ app: APP }, { ...files, app: revised(APP) }],
    ] as TinyFiles[][]) {
      await putTinyImage(store, [v1 ?? {}], { tag: 'v1' });
      await putTinyImage(store, [v2 ?? {}], { tag: 'v2' });
      await expect(makeDelta(store, dir)).rejects.toMatchObject({ code: 'TAR_INVALID' });
    }
    expect(await readdir(dir)).toEqual(['images']);
  });

  it('layers that unpack to more than allowed, and too many entries', async () => {
    await putTinyImage(store, [{ bomb: Buffer.alloc(10_000_000) }], { tag: 'v1' });
    await putTinyImage(store, [{ app: APP }], { tag: 'v2' });
    await expect(makeDelta(store, dir, { diskBytes: 1_000_000 })).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
    const unpack = { maxBytes: 1_000_000, maxWindowLog: 27 };
    const tar = { maxPathBytes: 4096, maxExtensionBytes: 4096, maxEntries: 1 };
    for (const limits of [
      { unpack, tar: { ...tar, maxEntries: 9 } },
      { unpack: { ...unpack, maxBytes: 1e9 }, tar },
    ]) {
      await expect(makeDelta(store, dir, { limits })).rejects.toMatchObject({
        code: 'LIMIT_EXCEEDED',
      });
    }
    expect(await readdir(dir)).toEqual(['images']);
  });

  it('to go on once it is aborted, and leaves nothing', async () => {
    await putTinyImage(store, [{ app: APP }], { tag: 'v1' });
    await putTinyImage(store, [{ app: revised(APP) }], { tag: 'v2' });
    const abort = new AbortController();
    const onProgress = () => abort.abort();
    await expect(makeDelta(store, dir, { signal: abort.signal, onProgress })).rejects.toMatchObject(
      {
        name: 'AbortError',
      },
    );
    const late = makeDelta(store, dir, { signal: AbortSignal.abort() });
    await expect(late).rejects.toMatchObject({ name: 'AbortError' });
    expect(await readdir(dir)).toEqual(['images']);
    expect(await store.listTags()).not.toContain('delta');
  });
});

describe('createDelta, for any two images', () => {
  const name = fc.constantFrom('a', 'b', 'd/a', 'd/b', 'd/e/a', 'lib-1.so', 'lib-2.so');
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc
      .record({ seed: fc.nat(3), length: fc.nat(9000), every: fc.integer({ min: 40, max: 900 }) })
      .map(({ seed, length, every }) => {
        const content = noise(String(seed), length);
        for (let i = every; i < length; i += every) content[i] = i & 0xff;
        return content;
      }),
  );
  const change = fc.oneof(
    { weight: 5, arbitrary: fc.record({ name, content: bytes }) },
    {
      weight: 1,
      arbitrary: fc.record({ gone: fc.constantFrom('a', 'd/a', 'd/e', 'd', 'lib-1.so') }),
    },
    { weight: 1, arbitrary: fc.record({ opaque: fc.constantFrom('d', 'd/e') }) },
  );
  const image = fc.array(fc.array(change, { minLength: 1, maxLength: 6 }), {
    minLength: 1,
    maxLength: 3,
  });

  type Layers = typeof image extends fc.Arbitrary<infer T> ? T : never;

  /** The layers' files, and the merged root that follows from what each change means. */
  function build(layers: Layers) {
    const root = new Map<string, Buffer>();
    const remove = (prefix: string) => {
      for (const path of root.keys()) if (`${path}/`.startsWith(`${prefix}/`)) root.delete(path);
    };
    const made = layers.map((changes) => {
      const files: Record<string, Uint8Array | string> = {};
      // Markers first, so that what they hide is of lower layers only.
      for (const one of changes) {
        if ('gone' in one) {
          files[one.gone.replace(/[^/]*$/, '.wh.$&')] = '';
          remove(one.gone);
        } else if ('opaque' in one) {
          files[`${one.opaque}/.wh..wh..opq`] = '';
          remove(one.opaque);
        }
      }
      for (const one of changes) {
        if (!('name' in one)) continue;
        files[one.name] = one.content;
        root.set(one.name, Buffer.from(one.content));
      }
      return files;
    });
    return { made, root };
  }

  it('rebuilds the target from the merged root of the source', async () => {
    await fc.assert(
      fc.asyncProperty(image, image, async (old, fresh) => {
        const images = await LayoutStore.create(await mkdtemp(join(dir, 'case-')));
        const { made, root } = build(old);
        await putTinyImage(images, made, { tag: 'v1' });
        const target = await putTinyImage(images, build(fresh).made, {
          tag: 'v2',
          packing: 'none',
        });
        const created = await makeDelta(images, dir).catch((error) => {
          expect(error).toMatchObject({ code: 'DELTA_REFUSED' });
        });
        if (created === undefined) return;
        const tree = memoryTree({ files: Object.fromEntries(root) });
        const rebuilt = await applyParts(images, created.manifest.digest, tree);
        for (const layer of target.layers) {
          const tar = rebuilt.get(layer.digest);
          if (tar !== undefined) expect(tar.equals(layer.tar)).toBe(true);
        }
      }),
      { numRuns: 30, seed: 7 },
    );
  }, 300_000);
});
