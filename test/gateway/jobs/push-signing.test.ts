import { beforeEach, describe, expect, it } from 'vitest';
import { PushSigning } from '../../../gateway/jobs/push-signing.ts';
import { sha256 } from '../../../shared/digest.ts';
import { legacyTag } from '../../../shared/signing/find-signatures.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { makeBundle, makeKey, putBundle } from '../../support/signatures.ts';
import { putTinyDelta } from '../../support/tiny-delta.ts';
import { putTinyImage, putTinyIndex, type TinyImage } from '../../support/tiny-image.ts';

let asked: string[];
let pushes: PushSigning;
let store: MemoryStore;
let image: TinyImage;

beforeEach(async () => {
  asked = [];
  pushes = new PushSigning({
    isWanted: (repository) => repository === 'os/edge',
    ensureSigned: async ({ tagOrDigest }) => void asked.push(tagOrDigest),
  });
  store = new MemoryStore();
  image = await putTinyImage(store, [{ a: '1' }]);
});

describe('signing at the push', () => {
  it('is of images and indexes under a tag, where it is wanted', async () => {
    const index = await putTinyIndex(store, { amd64: image }, 'multi');
    await pushes.pushed('os/edge', 'v1', image.stored);
    await pushes.pushed('os/edge', 'multi', index);
    await pushes.pushed('os/other', 'v1', image.stored);
    await pushes.pushed('os/edge', image.stored.digest, image.stored);
    expect(asked).toEqual(['v1', 'multi']);
  });

  it('is of no delta, no signature and nothing that cannot be read', async () => {
    const other = await putTinyImage(store, [{ a: '2' }]);
    const delta = await putTinyDelta(store, image, other);
    await pushes.pushed('os/edge', 'delta', await store.getManifest(delta.digest));
    await pushes.pushed('os/edge', 'v1', { ...image.stored, bytes: Buffer.from('{}') });
    await pushes.pushed('os/edge', `sha256-${'0'.repeat(64)}`, image.stored);
    expect(asked.filter((tag) => !tag.startsWith('sha256-'))).toEqual([]);
  });

  it('is tried again when a signature of what was pushed comes in, in either form', async () => {
    const key = makeKey();
    await putBundle(store, image.stored, makeBundle(key, image.stored.digest));
    const referrers = [...store.referrers.values()].flat();
    const bundle = await store.getManifest(referrers[0]?.digest ?? sha256(''));
    await pushes.pushed('os/edge', bundle.digest, bundle);
    expect(asked).toEqual([]);
    await pushes.pushed('os/edge', 'v1', image.stored);
    await pushes.pushed('os/edge', bundle.digest, bundle);
    await pushes.pushed('os/edge', legacyTag(image.stored.digest), bundle);
    await pushes.pushed('os/edge', legacyTag(sha256('unknown')), bundle);
    expect(asked).toEqual(['v1', 'v1', 'v1']);
  });
});
