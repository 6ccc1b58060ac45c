import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { type BuildContext, buildLayers } from '../../../host-client/update/build.ts';
import { Downloads } from '../../../host-client/update/downloads.ts';
import type { FetchedLayer, HeldLayer, Way } from '../../../host-client/update/ways.ts';
import { sha256 } from '../../../shared/digest.ts';
import { OCI_LAYER_GZIP, TAR_DIFF } from '../../../shared/oci/media-types.ts';
import { FakeStorage } from '../../support/fake-storage.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { tarDiffCopying } from '../../support/tiny-delta.ts';
import { tarOf } from '../../support/tiny-image.ts';

const LIBRARY = Buffer.from('a library of some length '.repeat(100));

/** A machine with one layer to build, by a delta from a file of its source. */
async function scene(ctx: Parameters<typeof temporaryFolder>[0]) {
  const folder = await temporaryFolder(ctx);
  const downloads = new Downloads(folder);
  const storage = new FakeStorage(folder);
  storage.files.set('usr/lib', LIBRARY);
  const tar = await tarOf({ 'usr/lib': LIBRARY, 'etc/new': 'new' });
  const delta = await tarDiffCopying(tar, 'usr/lib', LIBRARY);
  const packed = gzipSync(tar);
  const put = async (bytes: Uint8Array, mediaType: string) => {
    const blob = { mediaType, digest: sha256(bytes), size: bytes.length };
    await mkdir(folder, { recursive: true });
    await writeFile(downloads.path(blob), bytes);
    return blob;
  };
  const blob = { mediaType: OCI_LAYER_GZIP, digest: sha256(packed), size: packed.length };
  const fetch = await put(delta, TAR_DIFF);
  const layer: FetchedLayer = { kind: 'delta', diffId: sha256(tar), blob, fetch };
  const wholes: string[] = [];
  const context: BuildContext = {
    ...{ storage, downloads, limits: { layerBytes: 1e9, windowLog: 25 } },
    async fetchWhole(wanted) {
      wholes.push(wanted.blob.digest);
      await put(packed, OCI_LAYER_GZIP);
    },
  };
  const held = storage.hold({
    ...{ stored: { digest: sha256('m'), mediaType: 'm', bytes: Buffer.from('m') } },
    ...{ config: sha256('c'), configBytes: Buffer.from('c'), layers: [] },
  });
  const build = async (layers: Way['layers']) => {
    const transaction = await storage.begin({ layers });
    const way: Way = { method: 'delta', layers, fetch: [], bytes: 0, source: held };
    return buildLayers(context, transaction, way);
  };
  return { storage, downloads, folder, layer, packed, put, wholes, build };
}

describe('building layers', () => {
  it('applies a delta to files of the source', async (ctx) => {
    const { build, layer, wholes, storage } = await scene(ctx);
    expect(await build([layer])).not.toHaveProperty('fallbackReason');
    expect(storage.calls).toEqual([`layer ${layer.diffId}`]);
    expect(wholes).toEqual([]);
  });

  it.for([
    ['the source lacks a file', 'DELTA_SOURCE_MISMATCH', (s: FakeStorage): void => s.files.clear()],
    [
      'the source has other content',
      'DIFF_ID_MISMATCH',
      (s: FakeStorage): unknown => s.files.set('usr/lib', Buffer.from(LIBRARY).fill('x')),
    ],
  ] as const)('takes the whole layer when %s', async ([, code, spoil], ctx) => {
    const { build, layer, wholes, storage } = await scene(ctx);
    spoil(storage);
    const { fallbackReason } = await build([layer]);
    expect(fallbackReason).toContain(code);
    expect(wholes).toEqual([layer.blob.digest]);
  });

  it('takes the whole layer when the delta is no delta, and keeps no such file', async (ctx) => {
    const { build, layer, put, downloads } = await scene(ctx);
    const fetch = await put(Buffer.from('tardf1\n\0nonsense'), TAR_DIFF);
    const { fallbackReason } = await build([{ ...layer, fetch }]);
    expect(fallbackReason).toContain('DELTA_INVALID');
    expect(await downloads.has(fetch)).toBe(false);
  });

  it('rebuilds a layer that is held on another parent', async (ctx) => {
    const { build, layer, storage, wholes } = await scene(ctx);
    const tar = await tarOf({ other: '1' });
    storage.tars.set(sha256(tar), tar);
    const moved = { kind: 'reparented', diffId: sha256(tar), blob: layer.blob } as const;
    await build([moved]);
    expect(wholes).toEqual([]);
  });

  it('fetches a layer whole when the record of the held one is gone', async (ctx) => {
    const { build, layer, wholes } = await scene(ctx);
    const { blob, diffId } = layer;
    const held: HeldLayer = { kind: 'reparented', blob, diffId };
    const { fallbackReason } = await build([held]);
    expect(fallbackReason).toContain('STORAGE_INVALID');
    expect(wholes).toEqual([layer.blob.digest]);
  });

  it('gives up when the whole layer is not what the config promises', async (ctx) => {
    const { build, layer, put, folder } = await scene(ctx);
    const other = await put(gzipSync(await tarOf({ evil: '1' })), OCI_LAYER_GZIP);
    const lie: FetchedLayer = { ...layer, kind: 'full', blob: other, fetch: other };
    await expect(build([lie])).rejects.toMatchObject({ code: 'DIFF_ID_MISMATCH' });
    expect(await readdir(folder)).not.toContain(other.digest.slice('sha256:'.length));
  });
});
