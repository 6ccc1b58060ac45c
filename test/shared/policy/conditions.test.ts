import { beforeEach, describe, expect, it } from 'vitest';
import { resolveTarget } from '../../../host-client/update/target.ts';
import { trustBy } from '../../../host-client/update/trust.ts';
import type { StoredManifest } from '../../../shared/oci/content.ts';
import { OCI_CONFIG, OCI_INDEX, OCI_MANIFEST } from '../../../shared/oci/media-types.ts';
import { explainDecision, explanationLines } from '../../../shared/policy/explain.ts';
import { type Policy, parsePolicy } from '../../../shared/policy/policy.ts';
import { verifyManifest } from '../../../shared/policy/verify-manifest.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { makeBundle, makeKey, putBundle, type TestKey } from '../../support/signatures.ts';
import { putTinyDelta } from '../../support/tiny-delta.ts';
import { putBytes, putTinyImage, storedManifest } from '../../support/tiny-image.ts';

const VERSION = 'org.opencontainers.image.version';
const [release, backup, gateway] = [makeKey(), makeKey(), makeKey()];
const linux = { os: 'linux', architecture: 'amd64' };
const now = new Date('2026-06-01T00:00:00Z');

const policyOf = (rule: object): Policy => {
  const keys = {
    release: { pem: release.publicKey.pem },
    backup: { pem: backup.publicKey.pem },
    gateway: { pem: gateway.publicKey.pem },
  };
  const images = { signers: ['release'] };
  return parsePolicy(
    JSON.stringify({ version: 1, keys, rules: [{ repository: 'a.test/os', images, ...rule }] }),
  );
};

let store: MemoryStore;
let image: StoredManifest;

/** An image whose config and manifest say what is wanted. */
async function putImage(config: object = {}, manifest: object = {}): Promise<StoredManifest> {
  const body = { ...linux, rootfs: { type: 'layers', diff_ids: [] }, ...config };
  const stored = storedManifest({
    ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [], ...manifest },
    config: await putBytes(store, OCI_CONFIG, JSON.stringify(body)),
  });
  await store.putManifest(stored);
  return stored;
}

const sign = (stored: StoredManifest, key: TestKey = release) =>
  putBundle(store, stored, makeBundle(key, stored.digest));
const judge = (rule: object, stored = image, kind: 'image' | 'delta' = 'image') =>
  verifyManifest({
    ...{ reader: store, repository: 'a.test/os', digest: stored.digest, kind, now },
    policy: policyOf(rule),
  });
const unmet = (condition: string) => ({
  code: 'POLICY_REFUSED',
  message: expect.stringMatching(new RegExp(`^${condition}.* is not met`)),
});

beforeEach(async () => {
  store = new MemoryStore();
  const Labels = { [VERSION]: '2.0', role: 'server' };
  image = await putImage({ created: '2026-05-01T00:00:00Z', variant: 'v2', config: { Labels } });
  await sign(image);
});

describe('conditions on images', () => {
  const digest = `sha256:${'0'.repeat(64)}`;
  it.each<[string, object, object]>([
    ['annotations', { annotations: { role: 'server' } }, { annotations: { role: 'desktop' } }],
    ['annotations', { annotations: { role: ['x', 'server'] } }, { annotations: { other: 'x' } }],
    ['platforms', { platforms: ['linux/amd64'] }, { platforms: ['linux/arm64'] }],
    ['platforms', { platforms: ['linux/amd64/v2'] }, { platforms: ['linux/amd64/v3'] }],
    ['oldest.version', { oldest: { version: '2' } }, { oldest: { version: '2.0.1' } }],
    [
      'oldest.created',
      { oldest: { created: '2026-05-01T00:00:00Z' } },
      { oldest: { created: '2026-05-01T00:00:01Z' } },
    ],
    ['largest.imageBytes', { largest: { imageBytes: 1000 } }, { largest: { imageBytes: 10 } }],
    ['deniedDigests', { deniedDigests: [digest] }, { deniedDigests: 'image' }],
    ['allowedDigests', { allowedDigests: 'image' }, { allowedDigests: [digest] }],
  ])('%s: %j is met, %j is not', async (condition, met, not) => {
    const filled = (rule: object) =>
      JSON.parse(JSON.stringify(rule).replace('"image"', `["${image.digest}"]`));
    expect((await judge(filled(met))).conditions).toMatchObject([
      ...(condition === 'deniedDigests' ? [{ met: true }] : []),
      { condition: expect.stringContaining(condition), met: true },
    ]);
    await expect(judge(filled(not))).rejects.toMatchObject(unmet(condition));
  });

  it('denies by the digest of the config too', async () => {
    const { digest } = JSON.parse(image.bytes.toString()).config;
    await expect(judge({ deniedDigests: [digest] })).rejects.toMatchObject(unmet('deniedDigests'));
  });

  it('prefers an annotation of the manifest to a label, and refuses what states none', async () => {
    const Labels = { [VERSION]: '9' };
    const annotations = { [VERSION]: '1' };
    const old = await putImage({ config: { Labels } }, { annotations });
    const bare = await putImage({ config: null });
    for (const stored of [old, bare]) {
      await sign(stored);
      await expect(judge({ oldest: { version: '2' } }, stored)).rejects.toMatchObject(
        unmet('oldest.version'),
      );
    }
    const created = { oldest: { created: '2020-01-01T00:00:00Z' } };
    await expect(judge(created, bare)).rejects.toMatchObject(unmet('oldest.created'));
  });

  it('looks at nothing that is not signed', async () => {
    const unsigned = await putImage({ config: { Labels: { role: 'server' } } });
    store.reads.length = 0;
    await expect(judge({ annotations: { role: 'server' } }, unsigned)).rejects.toMatchObject({
      code: 'SIGNATURE_MISSING',
    });
    expect(store.reads.filter((read) => read.startsWith('blob'))).toEqual([]);
  });
});

describe('an index that vouches for an image', () => {
  let index: StoredManifest;
  beforeEach(async () => {
    image = await putImage({ config: { Labels: { role: 'server' } } });
    const entry = { mediaType: OCI_MANIFEST, digest: image.digest, size: image.bytes.length };
    const manifests = [{ ...entry, platform: linux }];
    index = storedManifest({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }, OCI_INDEX);
    await store.putManifest(index, 'v1');
    await sign(index);
  });
  const resolve = (rule: object) => {
    const trust = trustBy(policyOf(rule), 'a.test/os', store);
    return resolveTarget({ reader: store, api: undefined, trust }, 'v1', linux);
  };

  it('does not vouch for what the image itself must be', async () => {
    const found = await resolve({ annotations: { role: 'server' } });
    expect(found.manifest.digest).toBe(image.digest);
    const refused = resolve({ annotations: { role: 'desktop' } });
    await expect(refused).rejects.toMatchObject(unmet('annotations: role'));
  });

  it('lets no denied image in, and is itself denied with its images', async () => {
    for (const digest of [image.digest, index.digest]) {
      const denied = { deniedDigests: [digest] };
      await expect(resolve(denied)).rejects.toMatchObject(unmet('deniedDigests'));
      await sign(image);
      await expect(resolve(denied)).rejects.toMatchObject(unmet('deniedDigests'));
    }
  });

  it('is allowed with its images', async () => {
    await expect(resolve({ allowedDigests: [index.digest] })).resolves.toBeDefined();
    await sign(image);
    await expect(resolve({ allowedDigests: [image.digest] })).resolves.toBeDefined();
  });
});

describe('conditions on deltas', () => {
  let delta: StoredManifest;
  beforeEach(async () => {
    const source = await putTinyImage(store, [{ a: '1' }]);
    const target = await putTinyImage(store, [{ a: '2' }]);
    delta = await putTinyDelta(store, source, target);
    await sign(delta);
  });

  it('can forbid all of them before anything is read', async () => {
    store.reads.length = 0;
    await expect(judge({ deltas: false }, delta, 'delta')).rejects.toMatchObject({
      code: 'POLICY_REFUSED',
      message: expect.stringContaining('no delta'),
    });
    expect(store.reads).toEqual([]);
  });

  it('bounds their sizes, and refuses those that state none', async () => {
    const bytes = JSON.parse(delta.bytes.toString()).layers.reduce(
      (sum: number, layer: { size: number }) => sum + layer.size,
      0,
    );
    await judge({ largest: { deltaBytes: bytes, imageBytes: 1 } }, delta, 'delta');
    const over = { largest: { deltaBytes: bytes - 1 } };
    await expect(judge(over, delta, 'delta')).rejects.toMatchObject(unmet('largest.deltaBytes'));
    const stated = { largest: { deltaWindowBytes: 2 ** 40 } };
    await expect(judge(stated, delta, 'delta')).rejects.toMatchObject(
      unmet('largest.deltaWindowBytes'),
    );
  });

  it('can deny one by digest; an allow list is for images', async () => {
    await judge({ allowedDigests: [image.digest] }, delta, 'delta');
    const denied = judge({ deniedDigests: [delta.digest] }, delta, 'delta');
    await expect(denied).rejects.toMatchObject(unmet('deniedDigests'));
  });
});

describe('groups of signers', () => {
  const both = {
    images: {
      allOf: [
        { anyOf: [{ signers: ['release'] }, { signers: ['backup'] }] },
        { signers: ['gateway'] },
      ],
    },
  };

  it('all of them must be met, any of them is enough', async () => {
    await expect(judge(both)).rejects.toMatchObject({
      code: 'POLICY_REFUSED',
      message: expect.stringContaining('(1 of release or 1 of backup) and 1 of gateway'),
    });
    await sign(image, gateway);
    expect((await judge(both)).signers).toEqual(['release', 'gateway']);
  });

  it('counts a signer once in a group, however often they signed', async () => {
    await sign(image);
    const two = { images: { signers: ['release', 'backup'], threshold: 2 } };
    await expect(judge(two)).rejects.toMatchObject({ code: 'POLICY_REFUSED' });
  });
});

describe('an explanation', () => {
  it('names rule, signatures and conditions line by line', async () => {
    await sign(image, makeKey());
    const lines = async (rule: object) => {
      const request = { reader: store, repository: 'a.test/os', policy: policyOf(rule), now };
      const [one] = await explainDecision({ ...request, stored: image });
      return one === undefined ? [] : explanationLines(one);
    };
    const accepted = await lines({ annotations: { role: 'server' } });
    expect(accepted).toEqual([
      `image ${image.digest}`,
      '  rule a.test/os',
      '  asks for 1 of release',
      expect.stringMatching(/^ {2}bundle in sha256:[0-9a-f]{12} by release: counts$/),
      expect.stringMatching(/^ {2}bundle in .* does not count: it was made by a key that does not/),
      '  annotations: role: met: server',
      '  accepted',
    ]);
    const refused = await lines({ annotations: { role: 'desktop' } });
    expect(refused.at(-2)).toBe('  annotations: role: not met: server');
    expect(refused.at(-1)).toContain('refused: POLICY_REFUSED: annotations: role is not met');
    const without = await lines({ repository: 'b.test/os' });
    expect(without.at(-1)).toContain('refused: POLICY_REFUSED: no rule');
  });
});
