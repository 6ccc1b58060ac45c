import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ArchiveStore } from '../../../gateway/layout/archive-store.ts';
import { exportBundle } from '../../../gateway/plan/export-bundle.ts';
import type { LayerFormat } from '../../../shared/delta/formats.ts';
import { type Digest, sha256 } from '../../../shared/digest.ts';
import type { StoredManifest } from '../../../shared/oci/content.ts';
import { DELTA_ARTIFACT, OCI_MANIFEST, SIGSTORE_BUNDLE } from '../../../shared/oci/media-types.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { putTinyDelta } from '../../support/tiny-delta.ts';
import {
  putBytes,
  putTinyImage,
  putTinyIndex,
  storedManifest,
  type TinyImage,
} from '../../support/tiny-image.ts';

const SOURCE = sha256(Buffer.from('config of the source'));
const platform = { os: 'linux', architecture: 'arm64' };

async function attach(
  store: MemoryStore,
  { digest, mediaType, bytes }: StoredManifest,
  more: object,
): Promise<StoredManifest> {
  const config = await putBytes(store, 'application/vnd.oci.empty.v1+json', '{}');
  const subject = { mediaType, digest, size: bytes.length };
  const base = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [], subject };
  const stored = storedManifest({ ...base, ...more });
  await store.putManifest(stored);
  return stored;
}

async function sign(store: MemoryStore, subject: StoredManifest): Promise<StoredManifest> {
  const bundle = await putBytes(store, SIGSTORE_BUNDLE, `signature of ${subject.digest}`);
  return attach(store, subject, { artifactType: SIGSTORE_BUNDLE, layers: [bundle] });
}

function deltaFrom(sourceConfig: Digest): object {
  const annotations = { 'io.github.containers.delta.source-config': sourceConfig };
  return { artifactType: DELTA_ARTIFACT, annotations };
}

async function publish(): Promise<{ store: MemoryStore; index: StoredManifest; arm: TinyImage }> {
  const store = new MemoryStore();
  const arm = await putTinyImage(store, [{ a: 'arm' }], { architecture: 'arm64' });
  const amd = await putTinyImage(store, [{ a: 'amd' }]);
  const index = await putTinyIndex(store, { amd64: amd, arm64: arm }, 'stable');
  return { store, index, arm };
}

describe('a bundle of one platform of several', () => {
  it('holds index, image, delta and the signatures of all, and no layer', async (ctx) => {
    const { store, index, arm } = await publish();
    const delta = await attach(store, arm.stored, deltaFrom(SOURCE));
    await attach(store, arm.stored, deltaFrom(sha256(Buffer.from('another'))));
    for (const one of [index, delta]) await sign(store, one);
    const path = join(await temporaryFolder(ctx), 'bundle.tar');
    const archive = await ArchiveStore.create(path);
    const options = { target: store, tagOrDigest: 'stable', tag: 'next', platform };
    const content = await exportBundle(archive, { ...options, sourceConfig: SOURCE });
    expect(content).toEqual({
      ...{ target: arm.stored.digest, method: 'delta', artifact: delta.digest, signatures: 2 },
    });
    await archive.commit();
    await archive.close();
    const bundle = await ArchiveStore.open(path);
    expect((await bundle.getManifest('next')).bytes).toEqual(index.bytes);
    expect((await bundle.getManifest(arm.stored.digest)).bytes).toEqual(arm.stored.bytes);
    expect(await bundle.hasBlob(arm.config)).toBe(true);
    expect(await bundle.hasBlob(arm.layers[0]?.digest as Digest)).toBe(false);
    const attached = async (digest: Digest) =>
      (await bundle.listReferrers(digest)).map((one) => one.artifactType);
    expect(await attached(index.digest)).toEqual([SIGSTORE_BUNDLE]);
    expect(await attached(arm.stored.digest)).toEqual([DELTA_ARTIFACT]);
    expect(await attached(delta.digest)).toEqual([SIGSTORE_BUNDLE]);
    await bundle.close();
  });

  it('holds a delta for all machines beside a smaller one for some', async () => {
    const { store, index } = await publish();
    const old = await putTinyImage(store, [{ a: 'old' }], { architecture: 'arm64' });
    const fresh = await putTinyImage(store, [{ a: 'new' }], { architecture: 'arm64', tag: 'next' });
    const recompress = { set: 1, memory: 128, lzma: '5.8.4' };
    const make = (format: LayerFormat, delta: string) =>
      putTinyDelta(store, old, fresh, async () => delta, format);
    const some = await make({ kind: 'snapgate', recompress }, 'x');
    const plain = await make({ kind: 'snapgate' }, 'x'.repeat(2000));
    await make({ kind: 'tar-diff' }, 'x'.repeat(3000));
    for (const one of [index, fresh.stored, some, plain]) await sign(store, one);
    const bundle = new MemoryStore();
    const options = { target: store, tagOrDigest: 'next', tag: 'next', platform };
    const content = await exportBundle(bundle, { ...options, sourceConfig: old.config });
    expect(content.artifact).toBe(some.digest);
    const listed = (await bundle.listReferrers(fresh.stored.digest)).map((one) => one.digest);
    expect(listed).toContain(plain.digest);
    expect(listed).toContain(some.digest);
    expect(listed).toHaveLength(3);
  });

  it('is not made of what no machine would take', async () => {
    const { store, index, arm } = await publish();
    const options = { target: store, tagOrDigest: 'stable', tag: 'stable', platform };
    const make = (sourceConfig?: Digest) =>
      exportBundle(new MemoryStore(), { ...options, sourceConfig });
    await expect(make()).rejects.toMatchObject({ code: 'SIGNATURE_MISSING' });
    await sign(store, index);
    await expect(make()).resolves.toMatchObject({ method: 'full' });
    await expect(make(SOURCE)).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    await attach(store, arm.stored, deltaFrom(SOURCE));
    await expect(make(SOURCE)).rejects.toMatchObject({ code: 'SIGNATURE_MISSING' });
  });
});
