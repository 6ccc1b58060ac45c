import { beforeEach, describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../../../shared/digest.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import type { StoredManifest } from '../../../shared/oci/content.ts';
import { DELTA_ARTIFACT, OCI_MANIFEST } from '../../../shared/oci/media-types.ts';
import { type Policy, parsePolicy } from '../../../shared/policy/policy.ts';
import { verifyManifest } from '../../../shared/policy/verify-manifest.ts';
import { MAX_REFERRERS } from '../../../shared/signing/find-signatures.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import {
  makeBundle,
  makeKey,
  makeLegacy,
  payloadOf,
  putBundle,
  putLegacy,
  statementOf,
  type TestKey,
} from '../../support/signatures.ts';
import { putBytes, putTinyImage, storedManifest } from '../../support/tiny-image.ts';

const one = makeKey();
const two = makeKey();
const gateway = makeKey();
const stranger = makeKey();

const policyOf = (rules: object, extra: object = {}): Policy =>
  parsePolicy(
    JSON.stringify({
      version: 1,
      keys: {
        one: { pem: one.publicKey.pem, ...extra },
        two: { pem: two.publicKey.pem },
        gateway: { pem: gateway.publicKey.pem },
      },
      rules: [{ repository: 'a.test/os', ...rules }],
    }),
  );
const anyOne = policyOf({
  images: { signers: ['one', 'two'] },
  deltas: { signers: ['gateway'] },
});
const both = policyOf({ images: { signers: ['one', 'two'], threshold: 2 } });

let store: MemoryStore;
let image: StoredManifest;

beforeEach(async () => {
  store = new MemoryStore();
  ({ stored: image } = await putTinyImage(store, [{ 'etc/issue': 'x' }], { tag: 'v1' }));
  store.reads.length = 0;
});

const now = new Date('2026-06-01T00:00:00Z');
const judge = (policy: Policy, kind: 'image' | 'delta' = 'image', repository = 'a.test/os') =>
  verifyManifest({ reader: store, repository, digest: image.digest, kind, policy, now });
const bundleBy = (key: TestKey) => putBundle(store, image, makeBundle(key, image.digest));
const legacyBy = (...keys: TestKey[]) =>
  putLegacy(
    store,
    image.digest,
    keys.map((key) => makeLegacy(key, payloadOf(image.digest))),
  );
const refused = (code: string, message = '') => ({
  code,
  message: expect.stringContaining(message),
});

describe('verifyManifest', () => {
  it('accepts a bundle, and gives its manifest and its bytes as published', async () => {
    const digest = await bundleBy(one);
    const found = await judge(anyOne);
    expect(found.signers).toEqual(['one']);
    expect(found.signatures).toMatchObject([
      { form: 'bundle', manifest: digest, signer: 'one', counted: true },
    ]);
    const [kept] = found.signatureManifests;
    expect(kept?.stored).toBe(store.manifests.get(digest));
    expect(kept?.tag).toBeUndefined();
    const [blob] = kept?.blobs ?? [];
    expect(sha256(blob?.bytes ?? '')).toBe(blob?.descriptor.digest);
  });

  it('accepts a legacy signature, and names its tag', async () => {
    await legacyBy(stranger, two);
    const found = await judge(anyOne);
    expect(found.signers).toEqual(['two']);
    expect(found.signatureManifests).toMatchObject([
      { tag: `sha256-${image.digest.slice(7)}.sig` },
    ]);
  });

  it('refuses without a rule before anything is read', async () => {
    await bundleBy(one);
    store.reads.length = 0;
    await expect(judge(anyOne, 'image', 'b.test/os')).rejects.toMatchObject({
      code: 'POLICY_REFUSED',
    });
    expect(store.reads).toEqual([]);
  });

  it('refuses what is not signed', async () => {
    await expect(judge(anyOne)).rejects.toMatchObject({
      ...refused('SIGNATURE_MISSING'),
      where: `a.test/os@${image.digest}`,
      hint: expect.stringContaining('1 of one, two'),
    });
  });

  it('refuses a signature by a stranger', async () => {
    await bundleBy(stranger);
    await legacyBy(stranger);
    await expect(judge(anyOne)).rejects.toMatchObject(refused('SIGNATURE_INVALID', 'count'));
  });

  it('refuses a signature of another image that was attached to this one', async () => {
    const other = sha256('other');
    await putBundle(store, image, makeBundle(one, other));
    await putLegacy(store, image.digest, [makeLegacy(one, payloadOf(other))]);
    await expect(judge(anyOne)).rejects.toMatchObject(
      refused('SIGNATURE_INVALID', 'another digest'),
    );
  });

  it('refuses a statement of another kind by the right key', async () => {
    const statement = { ...statementOf(image.digest), predicateType: 'https://x.test/revoked' };
    await putBundle(store, image, makeBundle(one, image.digest, { statement }));
    await expect(judge(anyOne)).rejects.toMatchObject(
      refused('SIGNATURE_INVALID', 'predicateType'),
    );
  });

  it('lets deltas be signed by others than images', async () => {
    await bundleBy(gateway);
    await expect(judge(anyOne)).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' });
    expect((await judge(anyOne, 'delta')).signers).toEqual(['gateway']);
  });

  describe('with a bad signature beside a good one', () => {
    it('accepts a good legacy one beside a bad bundle', async () => {
      await putBundle(store, image, Buffer.from('{}'));
      await legacyBy(one);
      const found = await judge(anyOne);
      expect(found.signers).toEqual(['one']);
      expect(found.signatures.map((signature) => signature.counted)).toEqual([false, true]);
    });

    it('accepts a good bundle beside a bad legacy one', async () => {
      const { payload } = makeLegacy(one, payloadOf(image.digest));
      await putLegacy(store, image.digest, [{ payload, signature: 'AAAA' }]);
      await bundleBy(one);
      expect((await judge(anyOne)).signers).toEqual(['one']);
    });

    it('is not kept from the good one by what is missing, spoilt or too large', async () => {
      const spoilt = await putBundle(store, image, makeBundle(two, image.digest));
      const [layer] = JSON.parse(Buffer.from(store.manifests.get(spoilt)?.bytes ?? '').toString())
        .layers as [{ digest: Digest }];
      store.blobs.set(layer.digest, Buffer.from('spoilt'));
      await putBundle(store, image, Buffer.alloc(1024 * 1024, ' '));
      const gone = await putBundle(store, image, Buffer.from('[]'));
      store.manifests.delete(gone);
      await legacyBy(one);
      const found = await judge(anyOne);
      expect(found.signers).toEqual(['one']);
      expect(found.signatures.filter((signature) => !signature.counted)).toHaveLength(3);
    });
  });

  describe('with a threshold', () => {
    it('counts one signer once, in both forms and several times', async () => {
      await bundleBy(one);
      await bundleBy(one);
      await legacyBy(one, one);
      await expect(judge(both)).rejects.toMatchObject(
        refused('POLICY_REFUSED', 'signatures that count: one; asked for: 2 of one, two'),
      );
    });

    it.each<[string, () => Promise<unknown>]>([
      ['two bundles', async () => [await bundleBy(one), await bundleBy(two)]],
      ['two legacy signatures', () => legacyBy(two, one)],
      ['one of each', async () => [await bundleBy(two), await legacyBy(one)]],
    ])('accepts two signers: %s', async (_name, sign) => {
      await sign();
      expect((await judge(both)).signers.toSorted()).toEqual(['one', 'two']);
    });
  });

  it('reads no more than it takes to accept', async () => {
    await bundleBy(one);
    await bundleBy(two);
    await legacyBy(one);
    store.reads.length = 0;
    await judge(anyOne);
    expect(store.reads.map((read) => read.split(' ')[0])).toEqual([
      'referrers',
      'manifest',
      'blob',
    ]);
  });

  describe('with keys that are valid for a time', () => {
    it.each([
      [{ validFrom: '2026-06-01T00:00:01Z' }, 'is valid from 2026-06-01T00:00:01.000Z'],
      [{ validUntil: '2026-06-01T00:00:00Z' }, 'was valid until 2026-06-01T00:00:00.000Z'],
    ])('refuses outside of it: %o', async (window, message) => {
      await bundleBy(one);
      const policy = policyOf({ images: { signers: ['one'] } }, window);
      await expect(judge(policy)).rejects.toMatchObject(refused('POLICY_REFUSED', message));
    });

    it('accepts inside of it', async () => {
      await bundleBy(one);
      const window = { validFrom: '2026-06-01T00:00:00Z', validUntil: '2026-06-01T00:00:01Z' };
      expect((await judge(policyOf({ images: { signers: ['one'] } }, window))).signers).toEqual([
        'one',
      ]);
    });
  });

  it('does not let a bundle of another subject in by way of the list', async () => {
    const { stored: other } = await putTinyImage(store, [{ 'etc/issue': 'y' }]);
    // The statement is about our image, but the manifest says that it refers to another.
    await putBundle(store, other, makeBundle(one, image.digest));
    store.referrers.set(image.digest, store.referrers.get(other.digest) ?? []);
    await expect(judge(anyOne)).rejects.toMatchObject({ code: 'SIGNATURE_MISSING' });
  });

  it('looks at deltas last, and stops at the limit', async () => {
    const delta = storedManifest({
      ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, artifactType: DELTA_ARTIFACT },
      config: await putBytes(store, 'application/vnd.oci.empty.v1+json', '{}'),
      layers: [],
      subject: { mediaType: OCI_MANIFEST, digest: image.digest, size: image.bytes.byteLength },
    });
    await store.putManifest(delta);
    const entry = {
      ...{ mediaType: OCI_MANIFEST, digest: delta.digest, size: delta.bytes.byteLength },
      artifactType: DELTA_ARTIFACT,
    };
    store.referrers.set(image.digest, Array(10_000).fill(entry));
    await expect(judge(anyOne)).rejects.toMatchObject({ code: 'SIGNATURE_MISSING' });
    expect(store.reads.length).toBeLessThan(MAX_REFERRERS + 5);
    await bundleBy(one);
    store.reads.length = 0;
    await judge(anyOne);
    expect(store.reads).toHaveLength(3);
  });

  it('does not take a registry that fails for an image without signatures', async () => {
    store.listReferrers = async () => {
      throw new SnapgateError('UPSTREAM_FAILED', 'the registry answered 500');
    };
    await legacyBy(one);
    await expect(judge(anyOne)).rejects.toMatchObject({ code: 'UPSTREAM_FAILED' });
  });
});
