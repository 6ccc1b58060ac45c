import { describe, expect, it } from 'vitest';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { signImage } from '../../../gateway/signing/sign-image.ts';
import { signManifest } from '../../../gateway/signing/sign-manifest.ts';
import { keySigner } from '../../../gateway/signing/signer.ts';
import type { Digest } from '../../../shared/digest.ts';
import type { ContentStore, StoredManifest } from '../../../shared/oci/content.ts';
import { OCI_INDEX, OCI_MANIFEST, SIGSTORE_BUNDLE } from '../../../shared/oci/media-types.ts';
import { parsePolicy } from '../../../shared/policy/policy.ts';
import { verifyManifest } from '../../../shared/policy/verify-manifest.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { makeKey, makeLegacy, payloadOf, putLegacy } from '../../support/signatures.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { putTinyImage, putTinyIndex, storedManifest } from '../../support/tiny-image.ts';

const key = makeKey();
const other = makeKey();
const signer = keySigner(key.privateKey);
const dockerReference = 'a.test/os:v1';
const options = { signer, dockerReference };

const policyOf = (...keys: (typeof key)[]) =>
  parsePolicy(
    JSON.stringify({
      version: 1,
      keys: Object.fromEntries(keys.map(({ publicKey }, i) => [`k${i}`, { pem: publicKey.pem }])),
      rules: [
        {
          repository: '*',
          images: { signers: keys.map((_, i) => `k${i}`), threshold: keys.length },
        },
      ],
    }),
  );
const examine = (reader: ContentStore, digest: Digest, ...keys: (typeof key)[]) =>
  verifyManifest({
    ...{ reader, repository: 'a.test/os', digest, kind: 'image', now: new Date() },
    ...{ policy: policyOf(...keys), examineAll: true },
  });

const subjectOf = ({ mediaType, digest, bytes }: StoredManifest) => ({
  ...{ mediaType, digest },
  size: bytes.byteLength,
});

async function tinyStore() {
  const store = new MemoryStore();
  const { stored } = await putTinyImage(store, [{ 'etc/issue': 'x' }], { tag: 'v1' });
  return { store, stored };
}

describe('signManifest', () => {
  it('signs in both forms, which our own policy accepts', async () => {
    const { store, stored } = await tinyStore();
    const result = await signManifest(store, subjectOf(stored), options);
    expect(result).toEqual({ digest: stored.digest, bundle: 'added', legacy: 'added' });
    const { signatures } = await examine(store, stored.digest, key);
    expect(signatures).toMatchObject([
      { form: 'bundle', counted: true },
      { form: 'legacy', counted: true },
    ]);
  });

  it('writes the bundle as cosign does, with an empty keyid', async () => {
    const { store, stored } = await tinyStore();
    await signManifest(store, subjectOf(stored), options);
    const [referrer] = store.referrers.get(stored.digest) ?? [];
    const manifest = JSON.parse(
      Buffer.from(store.manifests.get(referrer?.digest as Digest)?.bytes ?? '').toString(),
    );
    expect(manifest).toMatchObject({
      artifactType: SIGSTORE_BUNDLE,
      config: { mediaType: 'application/vnd.oci.empty.v1+json', size: 2 },
      subject: subjectOf(stored),
      annotations: {
        'dev.sigstore.bundle.content': 'dsse-envelope',
        'dev.sigstore.bundle.predicateType': 'https://sigstore.dev/cosign/sign/v1',
        'org.opencontainers.image.created': expect.stringMatching(/^\d{4}-.*\d\dZ$/),
      },
    });
    const bundle = Buffer.from(store.blobs.get(manifest.layers[0].digest) ?? '').toString();
    const { dsseEnvelope, verificationMaterial } = JSON.parse(bundle);
    expect(dsseEnvelope.signatures[0].keyid || '').toBe('');
    expect(verificationMaterial.publicKey.hint).toBe(key.publicKey.hint);
  });

  it('adds nothing when the same key signs again', async () => {
    const { store, stored } = await tinyStore();
    await signManifest(store, subjectOf(stored), options);
    const before = [store.manifests.size, store.blobs.size];
    const again = await signManifest(store, subjectOf(stored), options);
    expect(again).toMatchObject({ bundle: 'present', legacy: 'present' });
    expect([store.manifests.size, store.blobs.size]).toEqual(before);
  });

  it('adds a legacy signature for another name, as verifiers may ask for it', async () => {
    const { store, stored } = await tinyStore();
    await signManifest(store, subjectOf(stored), options);
    const renamed = { signer, dockerReference: 'a.test/os:latest' };
    const result = await signManifest(store, subjectOf(stored), renamed);
    expect(result).toMatchObject({ bundle: 'present', legacy: 'added' });
    expect(store.legacyLayers(stored.digest)).toHaveLength(2);
  });

  it('keeps the signatures of others', async () => {
    const { store, stored } = await tinyStore();
    await putLegacy(store, stored.digest, [makeLegacy(other, payloadOf(stored.digest))]);
    const [first] = store.legacyLayers(stored.digest);
    await signManifest(store, subjectOf(stored), options);
    await signManifest(store, subjectOf(stored), {
      ...options,
      signer: keySigner(other.privateKey),
    });
    expect(store.legacyLayers(stored.digest)[0]).toEqual(first);
    const found = await examine(store, stored.digest, key, other);
    expect(found.signers).toHaveLength(2);
    expect(found.signatures.every(({ counted }) => counted)).toBe(true);
  });

  it('replaces a signature of its own that is no longer good', async () => {
    const { store, stored } = await tinyStore();
    const { payload } = makeLegacy(key, payloadOf(stored.digest));
    await putLegacy(store, stored.digest, [{ payload, signature: 'AAAA' }]);
    const result = await signManifest(store, subjectOf(stored), options);
    expect(result.legacy).toBe('added');
    await expect(examine(store, stored.digest, key)).resolves.toMatchObject({ signers: ['k0'] });
  });

  it('merges again when another writer wins the race', async () => {
    const { store, stored } = await tinyStore();
    const put = store.putManifest.bind(store);
    let lost = 0;
    store.putManifest = async (manifest, tag) => {
      await put(manifest, tag);
      if (tag?.endsWith('.sig') && lost < 3) {
        lost += 1;
        store.putManifest = put;
        await putLegacy(store, stored.digest, [makeLegacy(other, payloadOf(stored.digest))]);
        store.putManifest = racing;
      }
    };
    const racing = store.putManifest;
    await signManifest(store, subjectOf(stored), options);
    expect(lost).toBe(3);
    expect((await examine(store, stored.digest, key, other)).signers).toHaveLength(2);
  });

  it('gives up when it always loses', async () => {
    const { store, stored } = await tinyStore();
    const put = store.putManifest.bind(store);
    store.putManifest = async (manifest, tag) => {
      if (!tag?.endsWith('.sig')) await put(manifest, tag);
    };
    await expect(signManifest(store, subjectOf(stored), options)).rejects.toMatchObject({
      code: 'UPSTREAM_FAILED',
    });
  });

  it('refuses to grow the list of signatures without end', async () => {
    const { store, stored } = await tinyStore();
    const many = Array.from({ length: 64 }, () => makeLegacy(other, payloadOf(stored.digest)));
    await putLegacy(store, stored.digest, many);
    await expect(signManifest(store, subjectOf(stored), options)).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
  });

  it('works in an OCI layout, too', async (ctx) => {
    const store = await LayoutStore.create(await temporaryFolder(ctx));
    const { stored } = await putTinyImage(store, [{ 'etc/issue': 'x' }], { tag: 'v1' });
    await signManifest(store, subjectOf(stored), options);
    const { signatures } = await examine(store, stored.digest, key);
    expect(signatures.map(({ form }) => form)).toEqual(['bundle', 'legacy']);
    expect(await signManifest(store, subjectOf(stored), options)).toMatchObject({
      bundle: 'present',
      legacy: 'present',
    });
  });
});

describe('signImage', () => {
  it('signs every platform and the index, but no attestation', async () => {
    const store = new MemoryStore();
    const amd64 = await putTinyImage(store, [{ a: '1' }]);
    const arm64 = await putTinyImage(store, [{ a: '2' }], { architecture: 'arm64' });
    const plain = await putTinyIndex(store, { amd64, arm64 }, 'v1');
    const index = JSON.parse(Buffer.from(plain.bytes).toString());
    const attestation = {
      ...index.manifests[0],
      digest: `sha256:${'0'.repeat(64)}`,
      platform: { os: 'unknown', architecture: 'unknown' },
    };
    const stored = storedManifest(
      { ...index, manifests: [...index.manifests, attestation] },
      OCI_INDEX,
    );
    await store.putManifest(stored, 'v1');
    const signed = await signImage(store, stored, options);
    expect(signed.map(({ digest, platform }) => [digest, platform])).toEqual([
      [amd64.stored.digest, 'linux/amd64'],
      [arm64.stored.digest, 'linux/arm64'],
      [stored.digest, undefined],
    ]);
    for (const { digest } of signed) {
      await expect(examine(store, digest, key)).resolves.toMatchObject({ signers: ['k0'] });
    }
  });

  it('refuses an index in an index, and one that is too large', async () => {
    const store = new MemoryStore();
    const { stored } = await putTinyImage(store, [{ a: '1' }]);
    const entry = { ...subjectOf(stored), platform: { os: 'linux', architecture: 'amd64' } };
    const index = (manifests: object[]) =>
      storedManifest({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }, OCI_INDEX);
    const nested = index([{ ...entry, mediaType: OCI_INDEX }]);
    await expect(signImage(store, nested, options)).rejects.toMatchObject({
      code: 'MANIFEST_INVALID',
    });
    await expect(signImage(store, index(Array(65).fill(entry)), options)).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
    expect(entry.mediaType).toBe(OCI_MANIFEST);
  });
});
