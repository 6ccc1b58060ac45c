import { createHash, generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parsePublicKey } from '../../../shared/signing/public-key.ts';

const spki = { type: 'spki', format: 'pem' } as const;
const p256 = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const pem = p256.publicKey.export(spki).toString();

const refusal = (text: string) => {
  try {
    parsePublicKey(text, 'file.pub');
  } catch (thrown) {
    return thrown;
  }
  throw new Error('it was taken');
};

describe('parsePublicKey', () => {
  it('gives the hint that cosign writes into bundles', () => {
    const key = readFileSync('test/fixtures/signing/cosign3/cosign.pub', 'utf8');
    const bundle = readFileSync('test/fixtures/signing/cosign3/bundle.json', 'utf8');
    const { hint } = JSON.parse(bundle).verificationMaterial.publicKey;
    expect(parsePublicKey(key).hint).toBe(hint);
  });

  it('gives one key one form, however its point is written', () => {
    const { x = '', y = '' } = p256.publicKey.export({ format: 'jwk' });
    const odd = (Buffer.from(y, 'base64url').at(-1) ?? 0) & 1;
    const head = Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex');
    const point = Buffer.from(x, 'base64url');
    const der = Buffer.concat([head, Buffer.from([2 + odd]), point]).toString('base64');
    const compressed = `-----BEGIN PUBLIC KEY-----\n${der}\n-----END PUBLIC KEY-----\n`;
    const key = parsePublicKey(compressed);
    expect(key.pem).toBe(pem);
    const whole = p256.publicKey.export({ type: 'spki', format: 'der' });
    expect(key.hint).toBe(createHash('sha256').update(whole).digest('base64'));
  });

  it.each([
    ['P-384', generateKeyPairSync('ec', { namedCurve: 'P-384' }).publicKey, 'secp384r1'],
    ['secp256k1', generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey, 'secp256k1'],
    ['Ed25519', generateKeyPairSync('ed25519').publicKey, 'ed25519'],
    ['RSA', generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey, 'rsa'],
  ])('refuses %s and says what it is', (_name, key, kind) => {
    expect(refusal(key.export(spki).toString())).toMatchObject({
      code: 'KEY_INVALID',
      where: 'file.pub',
      message: expect.stringContaining(kind),
    });
  });

  it('refuses a private key, two keys, a certificate label, junk and nothing', () => {
    const secret = p256.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
    for (const text of [
      secret,
      pem + pem,
      pem.replaceAll('PUBLIC KEY', 'CERTIFICATE'),
      pem.replace(/\n[A-Za-z0-9]{4}/, '\nAAAA'),
      `x${pem}`,
      `${pem}${' '.repeat(5000)}`,
      '',
    ]) {
      expect(refusal(text)).toMatchObject({ code: 'KEY_INVALID' });
    }
  });
});
