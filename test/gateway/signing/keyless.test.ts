import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { buildKeylessBundle } from '../../../gateway/signing/keyless.ts';
import type { StoredManifest } from '../../../shared/oci/content.ts';
import { parsePolicy } from '../../../shared/policy/policy.ts';
import { verifyManifest } from '../../../shared/policy/verify-manifest.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { makeKey, putBundle } from '../../support/signatures.ts';
import { signKeyless, startSigstore, type TestSigstore } from '../../support/sigstore.ts';
import { putTinyImage } from '../../support/tiny-image.ts';

const ISSUER = 'https://issuer.test';
const SUBJECT = 'https://code.test/os/release.yml@refs/heads/main';

let services: TestSigstore;
let others: TestSigstore;
let store: MemoryStore;
let image: StoredManifest;

beforeAll(async () => {
  services = await startSigstore();
  others = await startSigstore();
});
afterAll(async () => {
  await services.close();
  await others.close();
});
beforeEach(async () => {
  store = new MemoryStore();
  ({ stored: image } = await putTinyImage(store, [{ a: '1' }]));
});

const judge = (identity: object = {}, images: object = { signers: ['pipeline'] }) => {
  const base = { issuer: ISSUER, subject: SUBJECT, trustedRoot: 'test' };
  const policy = parsePolicy(
    JSON.stringify({
      version: 1,
      identities: { pipeline: { ...base, ...identity } },
      trustedRoots: { test: services.trustedRoot },
      rules: [{ repository: 'a.test/os', images }],
    }),
  );
  return verifyManifest({
    ...{ reader: store, repository: 'a.test/os', digest: image.digest, kind: 'image', policy },
    now: new Date(),
  });
};
const invalid = (message: string) => ({
  code: 'SIGNATURE_INVALID',
  message: expect.stringContaining(message),
});

describe('a signature without a key', () => {
  it('counts for whom the certificate names, vouched for by the issuer', async () => {
    await signKeyless(
      store,
      { ...image, size: image.bytes.length },
      services.signer(SUBJECT, ISSUER),
    );
    expect((await judge()).signers).toEqual(['pipeline']);
    expect((await judge({ transparencyLogs: 1, timestamps: 2 })).signers).toEqual(['pipeline']);
  });

  it.each([
    ['the start of the name', { subject: SUBJECT.slice(0, -1) }],
    ['a name that this is the start of', { subject: `${SUBJECT}x` }],
    ['a pattern', { subject: '.*' }],
    ['dots as wildcards', { subject: SUBJECT.replaceAll('/', '.') }],
    ['another letter case', { subject: SUBJECT.toUpperCase() }],
    ['another issuer', { issuer: 'https://issuer.test.evil.test' }],
    ['the start of the issuer', { issuer: 'https://issuer.tes' }],
  ])('does not count for %s', async (_name, identity) => {
    await signKeyless(
      store,
      { ...image, size: image.bytes.length },
      services.signer(SUBJECT, ISSUER),
    );
    await expect(judge(identity)).rejects.toMatchObject(invalid('who does not count here'));
  });

  it('counts only with enough logs and times', async () => {
    const withoutLog = services.signer(SUBJECT, ISSUER, 'transparencyLog');
    await signKeyless(store, { ...image, size: image.bytes.length }, withoutLog);
    await expect(judge()).rejects.toMatchObject(invalid('expected 1 tlog entries, got 0'));
    expect((await judge({ transparencyLogs: 0 })).signers).toEqual(['pipeline']);
    await expect(judge({ transparencyLogs: 0, timestamps: 2 })).rejects.toMatchObject(
      invalid('expected 2 timestamps, got 1'),
    );
  });

  it('does not count when other services vouched for it', async () => {
    await signKeyless(
      store,
      { ...image, size: image.bytes.length },
      others.signer(SUBJECT, ISSUER),
    );
    await expect(judge()).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' });
  });

  it('is about one image, and every changed byte of its content is noticed', async () => {
    const other = await putTinyImage(store, [{ a: '2' }]);
    const signer = services.signer(SUBJECT, ISSUER);
    const bundle = Buffer.from(await buildKeylessBundle(signer, other.stored.digest));
    await putBundle(store, image, bundle);
    await expect(judge()).rejects.toMatchObject(invalid('the statement is about another digest'));

    const good = JSON.parse(Buffer.from(await buildKeylessBundle(signer, image.digest)).toString());
    const { payload } = good.dsseEnvelope;
    const statement = Buffer.from(payload, 'base64')
      .toString()
      .replace('"predicate":{}', '"predicate": {}');
    good.dsseEnvelope.payload = Buffer.from(statement).toString('base64');
    store.referrers.clear();
    await putBundle(store, image, Buffer.from(JSON.stringify(good)));
    await expect(judge()).rejects.toMatchObject({ code: 'SIGNATURE_INVALID' });
  });

  it('does not count as a key, and a key does not count as it', async () => {
    const bare = { version: 1, rules: [{ repository: '*', images: { signers: ['k'] } }] };
    const policy = parsePolicy(
      JSON.stringify({ ...bare, keys: { k: { pem: makeKey().publicKey.pem } } }),
    );
    await signKeyless(
      store,
      { ...image, size: image.bytes.length },
      services.signer(SUBJECT, ISSUER),
    );
    const judged = verifyManifest({
      ...{ reader: store, repository: 'a.test/os', digest: image.digest, kind: 'image', policy },
      now: new Date(),
    });
    await expect(judged).rejects.toMatchObject(invalid('with a certificate, not with a key'));
  });

  it('says which service refused, without the token', async () => {
    const signer = { ...services.signer(SUBJECT, ISSUER), identityToken: async () => 'se.cr.et' };
    const refused = signKeyless(store, { ...image, size: image.bytes.length }, signer);
    await expect(refused).rejects.toMatchObject({ code: 'UPSTREAM_FAILED' });
    await expect(refused).rejects.not.toMatchObject({ message: expect.stringContaining('se.cr') });
  });
});

describe('policies with identities', () => {
  it.each([
    ['an unknown trusted root', { trustedRoot: 'x' }, 'no trusted root x'],
    ['no timestamp at all', { timestamps: 0 }, 'timestamps'],
    ['an empty name', { subject: '' }, 'subject'],
    ['an issuer that is no address', { issuer: 'issuer' }, 'issuer'],
  ])('refuse %s', async (_name, identity, message) => {
    expect(() => judge(identity)).toThrow(message);
  });
});
