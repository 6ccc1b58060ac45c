import { type KeyObject, sign } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { SnapgateError } from '../../shared/errors.ts';
import { type PublicKey, publicKeyOf } from '../../shared/signing/public-key.ts';
import { decryptKey } from './encrypted-key.ts';

/**
 * Something that signs with one ECDSA P-256 key: a file here, elsewhere a token or a service. `sign`
 * hashes with SHA-256 and gives the signature in DER.
 */
export type Signer = {
  readonly publicKey: PublicKey;
  sign(data: Uint8Array): Promise<Uint8Array>;
};

/** Signs with a private key in memory. */
export function keySigner(privateKey: KeyObject): Signer {
  return {
    publicKey: publicKeyOf(privateKey),
    sign: async (data) => sign('sha256', data, privateKey),
  };
}

/** Opens an encrypted cosign key file. Throws KEY_INVALID, CONFIG_INVALID when it cannot be read. */
export async function openKeyFile(path: string, password: string): Promise<Signer> {
  return keySigner(decryptKey(await readText(path, 'key file'), password, path));
}

/** Reads a password file: its content without one final line break. Throws CONFIG_INVALID. */
export async function readPasswordFile(path: string): Promise<string> {
  return (await readText(path, 'password file')).replace(/\r?\n$/, '');
}

async function readText(path: string, what: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new SnapgateError('CONFIG_INVALID', `the ${what} cannot be read`, {
      where: path,
      hint: 'Correct its path or its permissions.',
      cause,
    });
  }
}
