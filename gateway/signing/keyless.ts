import { bundleToJSON } from '@sigstore/bundle';
import { DSSEBundleBuilder, FulcioSigner, RekorWitness, TSAWitness } from '@sigstore/sign';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { verifyBundle } from '../../shared/signing/bundle.ts';
import type { Identity } from '../../shared/signing/identity.ts';
import { buildStatement, IN_TOTO_PAYLOAD } from '../../shared/signing/statement.ts';
import { printable } from '../../shared/signing/verdict.ts';
import { rekorTilesWitness } from './rekor-tiles.ts';

/** How long one service may take to answer, in milliseconds. */
const ANSWER_MS = 30_000;

/** The services that vouch for a signature without a key, and who asks them. */
export type KeylessSigner = {
  /** Gives out certificates of short life (Fulcio). */
  readonly certificateAuthority: URL;
  /** Holds signatures (Rekor, API version 1 or 2); none, when absent. */
  readonly transparencyLog?: { readonly url: URL; readonly version: 1 | 2 };
  /** Says when a signature was made (RFC 3161); none, when absent. */
  readonly timestampAuthority?: URL;
  /** OpenID Connect token of whoever signs, for the audience `sigstore`. It is never logged. */
  readonly identityToken: () => Promise<string>;
  /** Kind of entry in a log of version 1. */
  readonly entryType?: 'dsse' | 'intoto';
  /**
   * Who it is to those that verify. With it nothing is published that they would not accept, and
   * what they accept already is not signed again.
   */
  readonly identity?: Identity;
};

/**
 * Makes the bundle of a signature without a key of one's own. Throws UPSTREAM_FAILED when a service
 * refuses, and SIGNATURE_INVALID when what they gave is not the signature of the signer's identity.
 */
export async function buildKeylessBundle(
  signer: KeylessSigner,
  subject: Digest,
): Promise<Uint8Array> {
  const data = Buffer.from(buildStatement(subject));
  const token = await signer.identityToken();
  const bytes = await create(signer, token, data);
  if (signer.identity === undefined) return bytes;
  const verdict = verifyBundle(bytes, subject, [], [signer.identity]);
  if (verdict.good) return bytes;
  throw new SnapgateError('SIGNATURE_INVALID', `the new signature: ${verdict.reason}`, {
    where: signer.certificateAuthority.host,
    hint: 'See whether issuer, subject and trusted root are those of these services and this token.',
  });
}

async function create(signer: KeylessSigner, token: string, data: Buffer): Promise<Uint8Array> {
  try {
    const bundle = await builderOf(signer, token).create({ data, type: IN_TOTO_PAYLOAD });
    return Buffer.from(JSON.stringify(bundleToJSON(bundle)));
  } catch (thrown) {
    // The library quotes a token that it cannot read, so neither its words nor the cause go on as they are.
    const said = String((thrown as Error).message).replaceAll(token, '(token)');
    throw new SnapgateError('UPSTREAM_FAILED', `signing failed: ${printable(said)}`, {
      where: signer.certificateAuthority.host,
      hint: 'See whether the identity token is still valid and meant for these services.',
    });
  }
}

function builderOf(signer: KeylessSigner, token: string): DSSEBundleBuilder {
  const { certificateAuthority, transparencyLog, timestampAuthority, entryType = 'dsse' } = signer;
  const how = { timeout: ANSWER_MS, retry: 1 };
  const base = (url: URL) => url.href.replace(/\/$/, '');
  const witnessOf = ({ url, version }: NonNullable<KeylessSigner['transparencyLog']>) =>
    version === 2
      ? rekorTilesWitness(url, ANSWER_MS)
      : new RekorWitness({ rekorBaseURL: base(url), entryType, ...how });
  return new DSSEBundleBuilder({
    signer: new FulcioSigner({
      fulcioBaseURL: base(certificateAuthority),
      identityProvider: { getToken: async () => token },
      ...how,
    }),
    witnesses: [
      ...(transparencyLog === undefined ? [] : [witnessOf(transparencyLog)]),
      ...(timestampAuthority === undefined
        ? []
        : [new TSAWitness({ tsaBaseURL: base(timestampAuthority), ...how })]),
    ],
  });
}
