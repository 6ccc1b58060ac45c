import type { Bundle } from '@sigstore/bundle';
import { TrustedRoot } from '@sigstore/protobuf-specs';
import {
  type Signer,
  type TrustMaterial,
  toSignedEntity,
  toTrustMaterial,
  Verifier,
} from '@sigstore/verify';

/** Subject alternative name (RFC 5280), and Fulcio's two extensions for the issuer. */
const SUBJECT_OIDS = ['2.5.29.17'];
const ISSUER_OIDS = ['1.3.6.1.4.1.57264.1.8', '1.3.6.1.4.1.57264.1.1'];

/** A signer known by what a certificate of short life says, and the services that vouch for it. */
export type Identity = {
  /** OpenID Connect issuer, compared letter by letter. */
  readonly issuer: string;
  /** Subject alternative name, compared letter by letter. */
  readonly subject: string;
  readonly trust: TrustMaterial;
  /** How many transparency logs must hold the signature. */
  readonly transparencyLogs: number;
  /** How many trusted times it must carry; at least one, or nothing would say when it was made. */
  readonly timestamps: number;
};

/**
 * Reads the content of a `trusted_root.json` file (Sigstore protobuf specification, "TrustedRoot"):
 * the certificate authorities, logs and timestamp authorities that are believed. `name` stands in
 * errors. Throws Error.
 */
export function parseTrustedRoot(json: unknown, name: string): TrustMaterial {
  let trust: TrustMaterial;
  try {
    trust = toTrustMaterial(TrustedRoot.fromJSON(json));
  } catch (cause) {
    throw new Error(`trusted root ${name}: ${(cause as Error).message}`, { cause });
  }
  if (trust.certificateAuthorities.length > 0) return trust;
  throw new Error(`trusted root ${name}: it names no certificate authority`);
}

/**
 * Finds whose signature a bundle by certificate is: the chain, the logs, the times and the signature
 * must be good by the identity's own trusted root. Gives the identity, or why there is none.
 */
export function verifyingIdentity(
  bundle: Bundle,
  identities: readonly Identity[],
): Identity | string {
  const reasons = new Set<string>();
  for (const identity of identities) {
    const reason = identityProblem(bundle, identity);
    if (reason === undefined) return identity;
    reasons.add(reason);
  }
  return [...reasons].slice(0, 2).join('; ') || 'it was made with a certificate, not with a key';
}

function identityProblem(bundle: Bundle, identity: Identity): string | undefined {
  const { trust, transparencyLogs, timestamps } = identity;
  const verifier = new Verifier(trust, {
    tlogThreshold: transparencyLogs,
    timestampThreshold: timestamps,
    // A trusted root without certificate logs belongs to services that keep none.
    ctlogThreshold: trust.ctlogs.length === 0 ? 0 : 1,
  });
  let signer: Signer;
  try {
    signer = verifier.verify(toSignedEntity(bundle));
  } catch (thrown) {
    return `its certificate is not trusted: ${(thrown as Error).message}`;
  }
  return nameProblem(signer, identity);
}

/**
 * Names are compared here and letter by letter: the library would take a text for an unanchored
 * regular expression. It also reads them as seven bits a letter, so the bytes are looked at too.
 */
function nameProblem(signer: Signer, { subject, issuer }: Identity): string | undefined {
  const found = signer.identity?.subjectAlternativeName;
  if (found !== subject || !holds(signer, SUBJECT_OIDS, subject)) {
    return `it is by ${found ?? 'nobody'}, who does not count here`;
  }
  const voucher = signer.identity?.extensions?.issuer;
  if (voucher === issuer && holds(signer, ISSUER_OIDS, issuer)) return undefined;
  return `${found} was vouched for by ${voucher ?? 'nobody'}, who does not count here`;
}

function holds(signer: Signer, oids: readonly string[], text: string): boolean {
  return (signer.identity?.oids ?? []).some(
    ({ oid, value }) => oids.includes(oid?.id.join('.') ?? '') && value.includes(text),
  );
}
