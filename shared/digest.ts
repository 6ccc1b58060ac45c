import { createHash } from 'node:crypto';
import { SnapgateError } from './errors.ts';

/**
 * A content digest, `sha256:` and 64 lower-case hex digits (OCI image specification, "Digests").
 * Only sha256 is accepted: it is what registries, Podman's storage and cosign use.
 */
export type Digest = `sha256:${string}` & { readonly __digest: true };

const PATTERN = /^sha256:[0-9a-f]{64}$/;

/** Whether a string is a well-formed sha256 digest. */
export function isDigest(text: string): text is Digest {
  return PATTERN.test(text);
}

/** Parses a digest. Throws DIGEST_INVALID when it is malformed or of another algorithm. */
export function parseDigest(text: string): Digest {
  if (isDigest(text)) return text;
  throw new SnapgateError(
    'DIGEST_INVALID',
    `not a sha256 digest: ${JSON.stringify(text.slice(0, 100))}`,
  );
}

/** The 64 hex digits of a digest. */
export function digestHex(digest: Digest): string {
  return digest.slice('sha256:'.length);
}

/** Makes a digest from 64 hex digits. Throws DIGEST_INVALID for anything else. */
export function digestFromHex(hex: string): Digest {
  return parseDigest(`sha256:${hex}`);
}

/** The digest of bytes in memory. */
export function sha256(data: Uint8Array | string): Digest {
  return digestFromHex(createHash('sha256').update(data).digest('hex'));
}
