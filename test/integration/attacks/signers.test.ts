import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { signManifest } from '../../../gateway/signing/sign-manifest.ts';
import type { StoredManifest } from '../../../shared/oci/content.ts';
import type { Repository } from '../../../shared/registry/repository.ts';
import { refused, useAttackedMachine } from '../../support/attacked-machine.ts';
import { IMAGE_NAME, type MachineState, type TestMachine } from '../../support/fleet.ts';
import {
  makeBundle,
  makeKey,
  makeLegacy,
  payloadOf,
  putBundle,
  putLegacy,
} from '../../support/signatures.ts';
import { startSigstore, type TestSigstore } from '../../support/sigstore.ts';

const ISSUER = 'https://issuer.test';
const SUBJECT = 'https://github.com/org/repo';
const attacked = useAttackedMachine();
const [release, stranger] = [makeKey(), makeKey()];
let services: TestSigstore;
let store: Repository;
let machine: TestMachine;
let before: MachineState;

const usePolicy = (signer = 'pipeline', identity: object = {}) =>
  machine.write('policy', {
    version: 1,
    keys: { release: { pem: release.publicKey.pem } },
    identities: {
      pipeline: { issuer: ISSUER, subject: SUBJECT, trustedRoot: 'test', ...identity },
    },
    trustedRoots: { test: services.trustedRoot },
    rules: [{ repository: IMAGE_NAME, images: { signers: [signer] } }],
  });
const publish = async (text: string) => (await attacked.publish(text)).stored;
const signAs = (stored: StoredManifest, subject: string, issuer: string) =>
  signManifest(
    store,
    { ...stored, size: stored.bytes.length },
    { signer: services.signer(subject, issuer), dockerReference: '' },
  );

beforeAll(async () => {
  if (attacked.skip !== undefined) return;
  ({ machine, store } = attacked);
  services = await startSigstore();
  await usePolicy();
  // The one whom the policy names is taken: what is refused below differs from this by the name alone.
  const stored = await publish('version 1');
  await signAs(stored, SUBJECT, ISSUER);
  expect(await attacked.update()).toMatchObject({ to: stored.digest });
});
afterAll(async () => {
  if (attacked.skip !== undefined) return;
  await services.close();
});
beforeEach(async () => {
  before = await machine.state();
});

describe('an identity that is not the one named', () => {
  afterEach(async () => {
    if (attacked.skip !== undefined) return;
    expect(await machine.state()).toEqual(before);
  });

  it.each([
    ['a letter where a dot stands', 'https://githubXcom/org/repo'],
    ['more behind it', `${SUBJECT}-evil`],
    ['a path behind it', `${SUBJECT}/.github/workflows/evil.yml@refs/heads/main`],
    ['the start of it', SUBJECT.slice(0, -1)],
    ['more before it', `https://evil.test/?${SUBJECT}`],
    ['a line behind it', `${SUBJECT}\nhttps://evil.test`],
    ['a line before it', `https://evil.test\n${SUBJECT}`],
    ['an end of line behind it', `${SUBJECT}\n`],
    ['a NUL behind it', `${SUBJECT}\0.evil.test`],
    ['another name in the same text', `https://evil.test, URI:${SUBJECT}`],
    ['other letter case', SUBJECT.toUpperCase()],
    ['a letter that is the same in seven bits', SUBJECT.replace('repo', '\u00f2epo')],
    ['a pattern that the name fits', 'https://github.com/org/.*'],
  ])('%s', async (name, subject) => {
    await usePolicy();
    await signAs(await publish(name), subject, ISSUER);
    expect(await attacked.update()).toMatchObject(
      refused('SIGNATURE_INVALID', /who does not count here/),
    );
  });

  it.each([
    ['a letter where a dot stands', 'https://issuerXtest'],
    ['more behind it', `${ISSUER}.evil.test`],
    ['a slash behind it', `${ISSUER}/`],
    ['an end of line behind it', `${ISSUER}\n`],
  ])('by an issuer with %s', async (name, issuer) => {
    await usePolicy();
    await signAs(await publish(`issuer with ${name}`), SUBJECT, issuer);
    expect(await attacked.update()).toMatchObject(
      refused('SIGNATURE_INVALID', /who does not count here/),
    );
  });

  it.each(['.*', 'https://github.com/org/*', `^${SUBJECT}$`, `${SUBJECT}|x`])(
    'where the policy says %s, which is no pattern',
    async (subject) => {
      await usePolicy('pipeline', { subject });
      await signAs(await publish(`by ${subject}`), SUBJECT, ISSUER);
      expect(await attacked.update()).toMatchObject(
        refused('SIGNATURE_INVALID', /who does not count here/),
      );
    },
  );
});

const spoilt = (signature: string) => {
  const bytes = Buffer.from(signature, 'base64');
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  return bytes.toString('base64');
};
const bundles: Record<string, (stored: StoredManifest) => Buffer> = {
  good: ({ digest }) => makeBundle(release, digest),
  spoilt: ({ digest }) =>
    makeBundle(release, digest, {
      spoil(bundle) {
        const [first] = bundle.dsseEnvelope.signatures;
        if (first !== undefined) first.sig = spoilt(first.sig);
        return bundle;
      },
    }),
  "a stranger's": ({ digest }) => makeBundle(stranger, digest),
  unreadable: () => Buffer.from('{"mediaType":'),
};
const legacies: Record<string, (stored: StoredManifest) => ReturnType<typeof makeLegacy>> = {
  good: ({ digest }) => makeLegacy(release, payloadOf(digest)),
  spoilt: ({ digest }) => {
    const { payload, signature } = makeLegacy(release, payloadOf(digest));
    return { payload, signature: spoilt(signature) };
  },
  "a stranger's": ({ digest }) => makeLegacy(stranger, payloadOf(digest)),
  unreadable: () => makeLegacy(release, '{"critical":'),
};
const signBoth = async (stored: StoredManifest, bundle: string, legacy: string) => {
  await putBundle(store, stored, bundles[bundle]?.(stored) ?? Buffer.alloc(0));
  await putLegacy(store, stored.digest, [legacies[legacy]?.(stored) ?? expect.unreachable()]);
};

// Whoever may push can add signatures. If a bad one did harm they could stop every update.
describe('a bundle beside a legacy signature', () => {
  const bad = ['spoilt', "a stranger's", 'unreadable'];

  it.each([...bad.map((kind) => [kind, 'good']), ...bad.map((kind) => ['good', kind])] as [
    string,
    string,
  ][])('%s beside %s is taken', async (bundle, legacy) => {
    await usePolicy('release');
    const stored = await publish(`bundle ${bundle}, legacy ${legacy}`);
    await signBoth(stored, bundle, legacy);
    expect(await attacked.update()).toMatchObject({ to: stored.digest });
    expect(machine.bootsNext()).not.toBe((before as { next: string }).next);
    // What was taken is still good by what is held of it.
    expect(await machine.snaphost('verify')).toMatchObject({ status: 0 });
  });

  it.each(bad.map((kind) => [kind, kind]))('%s beside %s is refused', async (bundle, legacy) => {
    await usePolicy('release');
    await signBoth(await publish(`both ${bundle}`), bundle, legacy);
    expect(await attacked.update()).toMatchObject(refused('SIGNATURE_INVALID'));
    expect(await machine.state()).toEqual(before);
  });
});
