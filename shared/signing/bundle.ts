import {
  type Bundle,
  bundleFromJSON,
  isBundleWithDsseEnvelope,
  ValidationError,
} from '@sigstore/bundle';
import { toSignedEntity, Verifier } from '@sigstore/verify';
import type { Digest } from '../digest.ts';
import { parseStrictJson } from '../strict-json.ts';
import { type Identity, verifyingIdentity } from './identity.ts';
import type { PublicKey } from './public-key.ts';
import { IN_TOTO_PAYLOAD, statementProblem } from './statement.ts';
import { bad, printable, type Verdict, verdictOf } from './verdict.ts';

/** Largest bundle read, in bytes. One by key is under 2 KiB, one by certificate under 16 KiB. */
export const MAX_BUNDLE_BYTES = 128 * 1024;

const BUNDLE_TYPES: readonly string[] = [
  'application/vnd.dev.sigstore.bundle.v0.3+json',
  'application/vnd.dev.sigstore.bundle+json;version=0.3',
];

/**
 * Checks a Sigstore bundle 0.3 as an image signature of `subject` by one of `keys` or, when it was
 * made with a certificate, of `identities`. What the library leaves open is checked here: the
 * version, the payload type, the statement. Entries of transparency logs and timestamps that a bundle
 * by key carries are not judged, as no log is configured. Never throws.
 */
export function verifyBundle(
  bytes: Uint8Array,
  subject: Digest,
  keys: readonly PublicKey[],
  identities: readonly Identity[] = [],
): Verdict {
  return verdictOf(() => {
    const bundle = readBundle(bytes);
    if (!BUNDLE_TYPES.includes(bundle.mediaType)) return bad('the bundle is not of version 0.3');
    if (!isBundleWithDsseEnvelope(bundle)) return bad('the bundle holds no DSSE envelope');
    const { payload, payloadType, signatures } = bundle.content.dsseEnvelope;
    if (signatures.length !== 1) return bad('the envelope must hold one signature');
    if (payloadType !== IN_TOTO_PAYLOAD) return bad('the payload is no in-toto statement');
    const isKeyed = bundle.verificationMaterial.content.$case === 'publicKey';
    const by = isKeyed ? verifyingKey(bundle, keys) : verifyingIdentity(bundle, identities);
    if (typeof by === 'string') return bad(printable(by));
    const problem = statementProblem(payload, subject);
    if (problem !== undefined) return bad(problem);
    return 'issuer' in by ? { good: true, identity: by } : { good: true, key: by };
  });
}

function readBundle(bytes: Uint8Array): Bundle {
  try {
    return bundleFromJSON(parseStrictJson(bytes));
  } catch (thrown) {
    if (!(thrown instanceof ValidationError)) throw thrown;
    throw new Error(`the bundle: ${thrown.fields.join(', ')} missing or wrong`);
  }
}

/** The key that signed a bundle, or why there is none. */
function verifyingKey(bundle: Bundle, keys: readonly PublicKey[]): PublicKey | string {
  const { content } = bundle.verificationMaterial;
  if (content.$case !== 'publicKey') return 'it was made with a certificate, not with a key';
  const { hint } = content.publicKey;
  // A bundle may leave the hint empty; every key is tried then.
  const named = hint === '' ? keys : keys.filter((key) => key.hint === hint);
  if (named.length === 0) return 'it was made by a key that does not count here';
  const plain = {
    ...bundle,
    verificationMaterial: {
      ...bundle.verificationMaterial,
      tlogEntries: [],
      timestampVerificationData: undefined,
    },
  };
  const entity = toSignedEntity(plain as Bundle);
  return named.find((key) => isSignedBy(entity, key)) ?? 'the signature does not fit the content';
}

function isSignedBy(entity: ReturnType<typeof toSignedEntity>, key: PublicKey): boolean {
  const trust = {
    certificateAuthorities: [],
    timestampAuthorities: [],
    tlogs: [],
    ctlogs: [],
    publicKey: () => ({ publicKey: key.keyObject, validFor: () => true }),
  };
  try {
    new Verifier(trust, { tlogThreshold: 0, timestampThreshold: 0 }).verify(entity);
    return true;
  } catch {
    return false;
  }
}
