import {
  createPrivateKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  scryptSync,
} from 'node:crypto';
import nacl from 'tweetnacl';
import * as v from 'valibot';
import { SnapgateError } from '../../shared/errors.ts';
import { type PublicKey, publicKeyOf } from '../../shared/signing/public-key.ts';
import { parseStrictJson } from '../../shared/strict-json.ts';

// The format of cosign's key files: PEM around JSON that names a key derivation (scrypt, RFC 7914),
// a cipher (secretbox of NaCl) and the encrypted PKCS#8 DER.
const PEM_TYPE = 'ENCRYPTED SIGSTORE PRIVATE KEY';
const OLD_PEM_TYPE = 'ENCRYPTED COSIGN PRIVATE KEY';
const PEM = new RegExp(
  `^\\s*-----BEGIN (${PEM_TYPE}|${OLD_PEM_TYPE})-----([A-Za-z0-9+/=\\s]+)-----END \\1-----\\s*$`,
);
const MAX_FILE = 16 * 1024;
const SALT_BYTES = 32;
/** Cost of the key derivation; memory is 128 * N * r bytes, so what a file may ask for is limited. */
const SCRYPT = { N: 2 ** 16, r: 8, p: 1 } as const;
const SCRYPT_N = [2 ** 15, 2 ** 16, 2 ** 17] as const;

const base64 = (bytes?: number) =>
  v.pipe(
    v.string(),
    v.base64(),
    v.transform((text) => Buffer.from(text, 'base64')),
    v.check((data) => bytes === undefined || data.length === bytes, `must be ${bytes} bytes`),
  );
const fileSchema = v.object({
  kdf: v.object({
    name: v.literal('scrypt'),
    params: v.object({ N: v.picklist(SCRYPT_N), r: v.literal(8), p: v.literal(1) }),
    salt: base64(SALT_BYTES),
  }),
  cipher: v.object({
    name: v.literal('nacl/secretbox'),
    nonce: base64(nacl.secretbox.nonceLength),
  }),
  ciphertext: base64(),
});

/** A key pair, both halves as the text of their files. */
export type GeneratedKey = {
  readonly privatePem: string;
  readonly publicPem: string;
  readonly publicKey: PublicKey;
};

/** Makes a new ECDSA P-256 key and encrypts it with a password; cosign reads both files. */
export function generateKey(password: string): GeneratedKey {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const publicKey = publicKeyOf(privateKey);
  return { privatePem: encryptKey(privateKey, password), publicPem: publicKey.pem, publicKey };
}

/** Encrypts a private key into the text of a key file. */
export function encryptKey(key: KeyObject, password: string): string {
  const salt = randomBytes(SALT_BYTES);
  const nonce = randomBytes(nacl.secretbox.nonceLength);
  const secret = derive(password, salt, SCRYPT.N);
  const plain = key.export({ type: 'pkcs8', format: 'der' });
  const ciphertext = Buffer.from(nacl.secretbox(plain, nonce, secret));
  const file = {
    kdf: { name: 'scrypt', params: SCRYPT, salt: salt.toString('base64') },
    cipher: { name: 'nacl/secretbox', nonce: nonce.toString('base64') },
    ciphertext: ciphertext.toString('base64'),
  };
  const body =
    Buffer.from(JSON.stringify(file))
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${PEM_TYPE}-----\n${body.join('\n')}\n-----END ${PEM_TYPE}-----\n`;
}

/**
 * Reads an encrypted private key of either PEM type that cosign has used. `where` names the file.
 * Throws KEY_INVALID: unreadable, a wrong password, another kind than ECDSA P-256.
 */
export function decryptKey(pem: string, password: string, where?: string): KeyObject {
  const invalid = (message: string, hint: string, cause?: unknown) =>
    new SnapgateError('KEY_INVALID', message, {
      ...(where === undefined ? {} : { where }),
      hint,
      ...(cause === undefined ? {} : { cause }),
    });
  const { kdf, cipher, ciphertext } = parseFile(pem, invalid);
  const secret = derive(password, kdf.salt, kdf.params.N);
  const plain = nacl.secretbox.open(ciphertext, cipher.nonce, secret);
  if (plain === null) {
    throw invalid('the private key does not open with this password', 'Give its password.');
  }
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: Buffer.from(plain), format: 'der', type: 'pkcs8' });
  } catch (cause) {
    throw invalid('the decrypted private key is not PKCS#8', 'Make a new key.', cause);
  }
  publicKeyOf(key, where);
  return key;
}

function parseFile(
  pem: string,
  invalid: (message: string, hint: string, cause?: unknown) => SnapgateError,
): v.InferOutput<typeof fileSchema> {
  const hint = 'Give a file that "snapgate keys generate" or "cosign generate-key-pair" wrote.';
  const body = pem.length > MAX_FILE ? undefined : PEM.exec(pem)?.[2];
  if (body === undefined) throw invalid('not an encrypted cosign private key', hint);
  try {
    return v.parse(fileSchema, parseStrictJson(Buffer.from(body, 'base64')));
  } catch (cause) {
    throw invalid(`encrypted private key: ${(cause as Error).message}`, hint, cause);
  }
}

function derive(password: string, salt: Uint8Array, N: number): Uint8Array {
  const { r, p } = SCRYPT;
  return scryptSync(password, salt, nacl.secretbox.keyLength, { N, r, p, maxmem: 256 * N * r });
}
