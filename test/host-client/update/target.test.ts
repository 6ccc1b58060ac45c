import { describe, expect, it } from 'vitest';
import { readTarget, resolveTarget } from '../../../host-client/update/target.ts';
import { OCI_MANIFEST } from '../../../shared/oci/media-types.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { putTinyImage, putTinyIndex, storedManifest } from '../../support/tiny-image.ts';
import { fakeApi, PLATFORM, signIn, targetOf, trustIn } from './fixture.ts';

const sourceOf = (store: MemoryStore) => ({ reader: store, api: undefined, trust: trustIn(store) });

describe('the target', () => {
  it('is read only after its signature was found good', async () => {
    const store = new MemoryStore();
    const image = await putTinyImage(store, [{ a: '1' }], { tag: 'stable' });
    const refused = resolveTarget(sourceOf(store), 'stable', PLATFORM);
    await expect(refused).rejects.toMatchObject({ code: 'SIGNATURE_MISSING' });
    expect(store.reads.filter((read) => read.startsWith('blob'))).toEqual([]);
    await signIn(store, image.stored);
    const target = await targetOf(store, 'stable');
    expect(target).toMatchObject({ manifest: image.stored, config: image.config });
    expect(target.layers.map((layer) => layer.diffId)).toEqual(
      image.layers.map((layer) => layer.diffId),
    );
    const sizes = image.layers.reduce((sum, layer) => sum + layer.size, 0);
    const { stored, configBytes } = image;
    expect(target.fullBytes).toBe(stored.bytes.length + configBytes.length + sizes);
  });

  it('stays what was judged when the tag moves', async () => {
    const store = new MemoryStore();
    const image = await putTinyImage(store, [{ a: '1' }], { tag: 'stable' });
    await signIn(store, image.stored);
    const trusted = await resolveTarget(sourceOf(store), 'stable', PLATFORM);
    await putTinyImage(store, [{ a: 'evil' }], { tag: 'stable' });
    const target = await readTarget(store, trusted, PLATFORM);
    expect(target.config).toBe(image.config);
  });

  it.for(['index', 'image'] as const)('is trusted by the signature of its %s', async (what) => {
    const store = new MemoryStore();
    const amd64 = await putTinyImage(store, [{ a: '1' }]);
    const arm64 = await putTinyImage(store, [{ a: '2' }], { architecture: 'arm64' });
    const index = await putTinyIndex(store, { amd64, arm64 }, 'stable');
    await signIn(store, what === 'index' ? index : amd64.stored);
    const target = await targetOf(store, 'stable');
    expect(target.manifest.digest).toBe(amd64.stored.digest);
    expect(target.resolved).toBe(index.digest);
  });

  it('is refused when another platform of its index is signed', async () => {
    const store = new MemoryStore();
    const amd64 = await putTinyImage(store, [{ a: '1' }]);
    const arm64 = await putTinyImage(store, [{ a: '2' }], { architecture: 'arm64' });
    await putTinyIndex(store, { amd64, arm64 }, 'stable');
    await signIn(store, arm64.stored);
    await expect(targetOf(store, 'stable')).rejects.toMatchObject({ code: 'SIGNATURE_MISSING' });
  });

  it('is asked for when the gateway signs only then', async () => {
    const store = new MemoryStore();
    const image = await putTinyImage(store, [{ a: '1' }], { tag: 'stable' });
    const api = fakeApi(image, []);
    const signing = {
      ...api,
      plan: async (request: Parameters<typeof api.plan>[0]) => {
        await signIn(store, image.stored);
        return api.plan(request);
      },
    };
    const source = { ...sourceOf(store), api: signing };
    const trusted = await resolveTarget(source, 'stable', PLATFORM);
    expect(trusted.manifest.digest).toBe(image.stored.digest);
    expect(api.calls).toEqual(['plan']);
  });

  it.for([
    ['fewer layers than its config', 1, {}, 'MANIFEST_INVALID'],
    ['another architecture', 2, { architecture: 'arm64' }, 'MANIFEST_INVALID'],
  ] as const)('is refused with %s', async ([, layers, options, code]) => {
    const store = new MemoryStore();
    const image = await putTinyImage(store, [{ a: '1' }, { b: '2' }], options);
    const all = image.layers
      .slice(0, layers)
      .map(({ mediaType, digest, size }) => ({ mediaType, digest, size }));
    const config = { mediaType: 'x', digest: image.config, size: image.configBytes.length };
    const lie = storedManifest({
      ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: all },
    });
    await store.putManifest(lie, 'stable');
    await signIn(store, lie);
    await expect(targetOf(store, 'stable')).rejects.toMatchObject({ code });
  });

  it('is refused when a layer is no tar stream', async () => {
    const store = new MemoryStore();
    const image = await putTinyImage(store, [{ a: '1' }]);
    const config = { mediaType: 'x', digest: image.config, size: image.configBytes.length };
    const layers = [{ mediaType: 'text/plain', digest: image.config, size: 1 }];
    const odd = storedManifest({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers });
    await store.putManifest(odd, 'stable');
    await signIn(store, odd);
    await expect(targetOf(store, 'stable')).rejects.toMatchObject({ code: 'MANIFEST_INVALID' });
  });
});
