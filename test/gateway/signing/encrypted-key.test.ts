import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { decryptKey, encryptKey, generateKey } from '../../../gateway/signing/encrypted-key.ts';
import { publicKeyOf } from '../../../shared/signing/public-key.ts';

const fixture = (path: string) => readFileSync(`test/fixtures/signing/${path}`, 'utf8');
const refusal = (pem: string, password = 'secret') => {
  try {
    decryptKey(pem, password, 'cosign.key');
  } catch (thrown) {
    return thrown;
  }
  throw new Error('it was taken');
};
const made = generateKey('secret');

/** Changes the JSON inside a key file. */
function changed(change: (file: { kdf: { name: string; params: object } }) => unknown): string {
  const [head = '', ...rest] = made.privatePem.trim().split('\n');
  const tail = rest.pop() ?? '';
  const file = JSON.parse(Buffer.from(rest.join(''), 'base64').toString());
  const body = Buffer.from(JSON.stringify(change(file))).toString('base64');
  return [head, body, tail, ''].join('\n');
}

describe('encrypted keys', () => {
  it.each(['cosign2', 'cosign3'])('of %s open with their password', (folder) => {
    const key = decryptKey(fixture(`${folder}/cosign.key`), 'correct horse');
    expect(publicKeyOf(key).pem).toBe(fixture(`${folder}/cosign.pub`));
  });

  it('open again, with an empty and a long password, too', () => {
    expect(publicKeyOf(decryptKey(made.privatePem, 'secret')).pem).toBe(made.publicPem);
    for (const password of ['', `${'ü'.repeat(500)}\n`]) {
      const { privatePem, publicKey } = generateKey(password);
      expect(publicKeyOf(decryptKey(privatePem, password))).toMatchObject({ hint: publicKey.hint });
    }
  });

  it('open under the older PEM type', () => {
    const old = made.privatePem.replaceAll('SIGSTORE', 'COSIGN');
    expect(publicKeyOf(decryptKey(old, 'secret')).pem).toBe(made.publicPem);
  });

  it('look like those of cosign', () => {
    const lines = made.privatePem.split('\n');
    expect(lines[0]).toBe(fixture('cosign3/cosign.key').split('\n')[0]);
    expect(Math.max(...lines.slice(1, -2).map((line) => line.length))).toBe(64);
  });

  it('stay closed to a wrong password, without a word of it', () => {
    const error = refusal(made.privatePem, 'wrong password');
    expect(error).toMatchObject({ code: 'KEY_INVALID', where: 'cosign.key' });
    expect(JSON.stringify(error)).not.toContain('wrong password');
  });

  it('are refused when their key is of another kind', () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
    expect(refusal(encryptKey(privateKey, 'secret'))).toMatchObject({
      code: 'KEY_INVALID',
      message: expect.stringContaining('secp384r1'),
    });
  });

  it.each<[string, string]>([
    ['a plain private key', '-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n'],
    ['a public key', made.publicPem],
    ['nothing', ''],
    ['two keys', made.privatePem + made.privatePem],
    ['a file too large', made.privatePem + ' '.repeat(20_000)],
    ['junk inside', changed(() => 'hello')],
    ['another derivation', changed((file) => ({ ...file, kdf: { ...file.kdf, name: 'pbkdf2' } }))],
    [
      'a cost that would fill the memory',
      changed(({ kdf, ...file }) => ({
        ...file,
        kdf: { ...kdf, params: { ...kdf.params, N: 2 ** 24 } },
      })),
    ],
    [
      'a cost that is none',
      changed(({ kdf, ...file }) => ({
        ...file,
        kdf: { ...kdf, params: { ...kdf.params, N: 2 } },
      })),
    ],
    [
      'another block size',
      changed(({ kdf, ...file }) => ({
        ...file,
        kdf: { ...kdf, params: { ...kdf.params, r: 1024 } },
      })),
    ],
    ['a short salt', changed(({ kdf, ...file }) => ({ ...file, kdf: { ...kdf, salt: 'AAAA' } }))],
    [
      'a ciphertext of another key',
      changed((file) => ({ ...file, ciphertext: randomBytes(150).toString('base64') })),
    ],
  ])('are refused: %s', (_name, pem) => {
    expect(refusal(pem)).toMatchObject({ code: 'KEY_INVALID', where: 'cosign.key' });
  });
});
