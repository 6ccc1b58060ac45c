import { beforeEach, describe, expect, it } from 'vitest';
import { keySigner } from '../../../gateway/signing/signer.ts';
import {
  type SigningEvent,
  type SigningRule,
  SigningService,
} from '../../../gateway/signing/signing-service.ts';
import { sha256 } from '../../../shared/digest.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import type { StoredManifest } from '../../../shared/oci/content.ts';
import { parsePolicy } from '../../../shared/policy/policy.ts';
import { verifyManifest } from '../../../shared/policy/verify-manifest.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { makeBundle, makeKey, putBundle } from '../../support/signatures.ts';
import { putTinyDelta } from '../../support/tiny-delta.ts';
import { putTinyImage, putTinyIndex, type TinyImage } from '../../support/tiny-image.ts';

const gateway = makeKey();
const publisher = makeKey();
const policyOf = (key: typeof gateway) =>
  parsePolicy(
    JSON.stringify({
      version: 1,
      keys: { only: { pem: key.publicKey.pem } },
      rules: [{ repository: 'gate.test/os/*', images: { signers: ['only'] } }],
    }),
  );
const rule: SigningRule = {
  ...{ repository: 'os/*', signer: keySigner(gateway.privateKey) },
  ...{ images: true, deltas: true },
};

let store: MemoryStore;
let amd64: TinyImage;
let arm64: TinyImage;
let index: StoredManifest;
let events: SigningEvent[];
let opened: string[];

beforeEach(async () => {
  store = new MemoryStore();
  amd64 = await putTinyImage(store, [{ a: '1' }]);
  arm64 = await putTinyImage(store, [{ a: '2' }], { architecture: 'arm64' });
  index = await putTinyIndex(store, { amd64, arm64 }, 'v1');
  events = [];
  opened = [];
});

function service(...rules: SigningRule[]): SigningService {
  return new SigningService({
    ...{ rules, registry: 'gate.test', onEvent: (event) => events.push(event) },
    open: (repository) => {
      opened.push(repository);
      return store;
    },
  });
}

const target = () => ({
  ...{ repository: 'os/edge', tagOrDigest: 'v1' },
  manifest: amd64.stored.digest,
});
const isSigned = async (digest: StoredManifest['digest'], kind: 'image' | 'delta' = 'image') => {
  try {
    await verifyManifest({
      ...{ reader: store, repository: 'gate.test/os/edge', digest, kind },
      ...{ policy: policyOf(gateway), now: new Date() },
    });
    return true;
  } catch {
    return false;
  }
};
const payloads = (digest: StoredManifest['digest']) =>
  store
    .legacyLayers(digest)
    .map((layer) => JSON.parse(Buffer.from(store.blobs.get(layer.digest) ?? '').toString()))
    .map((payload) => payload.critical.identity['docker-reference']);

describe('ensureSigned', () => {
  it('signs every platform and the index under the name that clients use', async () => {
    await service(rule).ensureSigned(target());
    for (const { digest } of [amd64.stored, arm64.stored, index]) {
      expect(await isSigned(digest)).toBe(true);
      expect(payloads(digest)).toEqual(['gate.test/os/edge:v1']);
    }
    expect(events).toEqual([
      {
        ...{ repository: 'os/edge', digest: amd64.stored.digest },
        ...{ kind: 'image', outcome: 'signed' },
      },
    ]);
  });

  it('does it once, also when many ask at once and ask again', async () => {
    const signing = service(rule);
    await Promise.all(Array.from({ length: 5 }, () => signing.ensureSigned(target())));
    await signing.ensureSigned(target());
    expect(opened).toEqual(['os/edge']);
    await service(rule).ensureSigned(target());
    expect(events.map((event) => event.outcome)).toEqual(['signed', 'present']);
    expect(store.referrers.get(amd64.stored.digest)).toHaveLength(1);
  });

  it('loses no signature when two names of one image are signed at once', async () => {
    const signing = service(rule);
    await Promise.all([
      signing.ensureSigned(target()),
      signing.ensureSigned({ ...target(), tagOrDigest: index.digest }),
    ]);
    expect(payloads(amd64.stored.digest)).toEqual(['gate.test/os/edge:v1', 'gate.test/os/edge']);
  });

  it('signs what was meant when the tag moves in between', async () => {
    store.tags.set('v1', arm64.stored.digest);
    await service(rule).ensureSigned(target());
    expect(await isSigned(amd64.stored.digest)).toBe(true);
    expect(await isSigned(arm64.stored.digest)).toBe(false);
  });

  it('leaves alone what no rule covers, or a rule leaves out', async () => {
    const other = { ...target(), repository: 'apps/web' };
    await service(rule).ensureSigned(other);
    const except = { ...rule, repository: 'os/edge', images: false };
    await service(rule, except).ensureSigned(target());
    expect(opened).toEqual([]);
    await service(rule, except).ensureSigned({ ...target(), repository: 'os/other' });
    expect(opened).toEqual(['os/other']);
  });

  it('throws what the registry answers, and tries again the next time', async () => {
    const signing = service(rule);
    const put = store.putManifest.bind(store);
    store.putManifest = async () => {
      throw new SnapgateError('DENIED', 'not allowed');
    };
    await expect(signing.ensureSigned(target())).rejects.toMatchObject({ code: 'DENIED' });
    store.putManifest = put;
    await signing.ensureSigned(target());
    expect(await isSigned(amd64.stored.digest)).toBe(true);
  });

  describe('where a publisher must have signed', () => {
    const strict = { ...rule, requirePublisher: policyOf(publisher) };
    const publish = (stored: StoredManifest, key = publisher) =>
      putBundle(store, stored, makeBundle(key, stored.digest));

    it('does not sign what nobody or a stranger signed, and says so', async () => {
      const signing = service(strict);
      await signing.ensureSigned(target());
      await publish(index, makeKey());
      await signing.ensureSigned(target());
      expect(await isSigned(amd64.stored.digest)).toBe(false);
      expect(events.map(({ outcome, refusal }) => [outcome, refusal?.code])).toEqual([
        ['refused', 'SIGNATURE_MISSING'],
        ['refused', 'SIGNATURE_MISSING'],
      ]);
    });

    it('signs all of an index that was signed, also when that came later', async () => {
      const signing = service(strict);
      await signing.ensureSigned(target());
      await publish(index);
      await signing.ensureSigned(target());
      expect(await isSigned(arm64.stored.digest)).toBe(true);
      expect(await isSigned(index.digest)).toBe(true);
    });

    it('signs only the platform when only that was signed', async () => {
      await publish(amd64.stored);
      await service(strict).ensureSigned(target());
      expect(await isSigned(amd64.stored.digest)).toBe(true);
      expect(await isSigned(arm64.stored.digest)).toBe(false);
      expect(await isSigned(index.digest)).toBe(false);
    });

    it('signs only deltas that lead to what was signed', async () => {
      const delta = await putTinyDelta(store, arm64, amd64);
      const signing = service(strict);
      expect(await signing.signDelta('os/edge', delta)).toBeUndefined();
      expect(await isSigned(delta.digest, 'delta')).toBe(false);
      await publish(amd64.stored);
      expect(await signing.signDelta('os/edge', delta)).toMatchObject({ bundle: 'added' });
      expect(await isSigned(delta.digest, 'delta')).toBe(true);
    });
  });
});

describe('signDelta', () => {
  it('signs the artifact itself, once', async () => {
    const delta = await putTinyDelta(store, arm64, amd64);
    const signing = service(rule);
    await signing.signDelta('os/edge', delta);
    await signing.signDelta('os/edge', delta);
    expect(await isSigned(delta.digest, 'delta')).toBe(true);
    expect(await isSigned(amd64.stored.digest)).toBe(false);
    expect(events.map(({ kind, outcome }) => `${kind} ${outcome}`)).toEqual([
      'delta signed',
      'delta present',
    ]);
  });

  it('leaves alone what no rule wants signed, and refuses what is no delta', async () => {
    const delta = await putTinyDelta(store, arm64, amd64);
    expect(await service({ ...rule, deltas: false }).signDelta('os/edge', delta)).toBeUndefined();
    expect(await service(rule).signDelta('apps/web', delta)).toBeUndefined();
    await expect(service(rule).signDelta('os/edge', amd64.stored)).rejects.toMatchObject({
      code: 'DELTA_INVALID',
    });
    expect(sha256(delta.bytes)).toBe(delta.digest);
  });
});
