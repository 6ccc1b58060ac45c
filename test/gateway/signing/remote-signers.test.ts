import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openPkcs11 } from '../../../gateway/signing/pkcs11.ts';
import { signManifest } from '../../../gateway/signing/sign-manifest.ts';
import type { Signer } from '../../../gateway/signing/signer.ts';
import { openTransit } from '../../../gateway/signing/transit.ts';
import { parsePolicy } from '../../../shared/policy/policy.ts';
import { verifyManifest } from '../../../shared/policy/verify-manifest.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import {
  makeToken,
  SOFTHSM_MODULE,
  softHsmMissing,
  type TestToken,
} from '../../support/softhsm.ts';
import { putTinyImage } from '../../support/tiny-image.ts';
import { startTransit, type TransitServer } from '../../support/transit-server.ts';

/** Signs an image and has the policy judge both forms. */
async function signsImages(signer: Signer): Promise<void> {
  const store = new MemoryStore();
  const { stored } = await putTinyImage(store, [{ a: '1' }]);
  const subject = { ...stored, size: stored.bytes.length };
  // Often enough for numbers of every length.
  for (let i = 0; i < 300; i += 1) await signer.sign(Buffer.from(String(i)));
  await signManifest(store, subject, { signer, dockerReference: 'a.test/os:v1' });
  const keys = { k: { pem: signer.publicKey.pem } };
  const rules = [{ repository: '*', images: { signers: ['k'] } }];
  const { signatures } = await verifyManifest({
    ...{ reader: store, repository: 'a.test/os', digest: stored.digest, kind: 'image' },
    ...{ policy: parsePolicy(JSON.stringify({ version: 1, keys, rules })), now: new Date() },
    examineAll: true,
  });
  expect(signatures.map(({ form, counted }) => [form, counted])).toEqual([
    ['bundle', true],
    ['legacy', true],
  ]);
}

describe('a key in a PKCS#11 token', () => {
  const skip = softHsmMissing();
  const options = { module: SOFTHSM_MODULE, token: 'snapgate test', key: 'release', pin: '4321' };
  let hsm: TestToken | undefined;
  beforeAll(async () => {
    if (skip === undefined) hsm = await makeToken({ ...options, other: 'other' });
  });
  afterAll(() => hsm?.remove());

  it('is refused with a wrong PIN, label, token, kind or module', (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const refused = (changes: Partial<typeof options>, message: string) =>
      expect(() => openPkcs11({ ...options, ...changes })).toThrow(
        expect.objectContaining({ code: 'KEY_INVALID', message: expect.stringContaining(message) }),
      );
    refused({ pin: '0000' }, 'does not open with this PIN');
    refused({ key: 'nobody' }, '0 private keys');
    refused({ token: 'nowhere' }, 'no such token');
    refused({ module: '/nowhere.so' }, 'module');
    refused({ key: 'other' }, '');
  });

  it('signs images as any key does', async (ctx) => {
    ctx.skip(skip !== undefined, skip);
    const signer = openPkcs11(options);
    await signsImages(signer);
    signer.close();
  });
});

describe('a key in the transit engine of a key service', () => {
  // A stand-in on loopback with the API's shape; the service itself is not run here.
  let service: TransitServer;
  beforeAll(async () => {
    service = await startTransit();
  });
  afterAll(() => service.close());
  const open = (token = 'secret', key = 'release') => openTransit({ url: service.url, key, token });

  it('signs images as any key does', async () => {
    await signsImages(await open());
  });

  it('is refused without the right token, and the token is not told', async () => {
    const refusal = await open('wrong token').catch((thrown: unknown) => thrown);
    expect(refusal).toMatchObject({ code: 'UPSTREAM_FAILED', message: /403/ });
    expect(JSON.stringify(refusal)).not.toContain('wrong token');
  });

  it('is refused when it is of another type, signs with another key, or nobody answers', async () => {
    service.answers.type = 'ed25519';
    await expect(open()).rejects.toMatchObject({ code: 'UPSTREAM_FAILED' });
    service.answers.type = 'ecdsa-p256';
    const signer = await open();
    service.answers.signWith = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
    await expect(signer.sign(Buffer.from('x'))).rejects.toMatchObject({ code: 'UPSTREAM_FAILED' });
    service.answers.signWith = service.privateKey;
    const nowhere = openTransit({ url: new URL('http://127.0.0.1:1'), key: 'k', token: 't' });
    await expect(nowhere).rejects.toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
  });
});
