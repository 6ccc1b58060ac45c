import { createHash, createPublicKey, type KeyObject } from 'node:crypto';
import { SnapgateError } from '../errors.ts';

/** A public key that signatures are checked with: ECDSA on P-256, used with SHA-256. */
export type PublicKey = {
  /** PEM of the SubjectPublicKeyInfo, in one canonical form. */
  readonly pem: string;
  /** Base64 of the sha256 of the SubjectPublicKeyInfo in DER, as bundles name keys. */
  readonly hint: string;
  readonly keyObject: KeyObject;
};

const PEM = /^\s*-----BEGIN PUBLIC KEY-----[\r\n]+[A-Za-z0-9+/=\r\n]+-----END PUBLIC KEY-----\s*$/;
const MAX_PEM = 4096;

/**
 * Parses a PEM public key ("PUBLIC KEY", RFC 5480). Only ECDSA P-256 is taken: it is the one kind
 * that every verifier of container signatures handles alike. `where` names the key in errors.
 * Throws KEY_INVALID.
 */
export function parsePublicKey(pem: string, where?: string): PublicKey {
  if (pem.length > MAX_PEM || !PEM.test(pem)) {
    throw invalid('not one PEM public key', where);
  }
  let key: KeyObject;
  try {
    key = createPublicKey({ key: pem, format: 'pem' });
  } catch (cause) {
    throw invalid('the public key cannot be read', where, cause);
  }
  return publicKeyOf(key, where);
}

/** Takes the public half of a key that was read already. Throws KEY_INVALID unless it is P-256. */
export function publicKeyOf(key: KeyObject, where?: string): PublicKey {
  const kind = `${key.asymmetricKeyType} ${key.asymmetricKeyDetails?.namedCurve ?? ''}`.trim();
  if (kind !== 'ec prime256v1') {
    throw invalid(`the key is of the kind ${kind}, not ECDSA P-256`, where);
  }
  const half = key.type === 'private' ? createPublicKey(key) : key;
  // By way of its coordinates, so that one key cannot pass as two in different encodings.
  const keyObject = createPublicKey({ key: half.export({ format: 'jwk' }), format: 'jwk' });
  const der = keyObject.export({ type: 'spki', format: 'der' });
  return {
    pem: keyObject.export({ type: 'spki', format: 'pem' }).toString(),
    hint: createHash('sha256').update(der).digest('base64'),
    keyObject,
  };
}

function invalid(message: string, where: string | undefined, cause?: unknown): SnapgateError {
  return new SnapgateError('KEY_INVALID', message, {
    ...(where === undefined ? {} : { where }),
    hint: 'Keys are ECDSA P-256 in PEM, as "snapgate keys generate" and cosign write them.',
    ...(cause === undefined ? {} : { cause }),
  });
}
