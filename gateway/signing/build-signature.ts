import { bundleToJSON } from '@sigstore/bundle';
import { DSSEBundleBuilder } from '@sigstore/sign';
import type { Digest } from '../../shared/digest.ts';
import { buildPayload } from '../../shared/signing/simple-signing.ts';
import { buildStatement, IN_TOTO_PAYLOAD } from '../../shared/signing/statement.ts';
import type { Signer } from './signer.ts';

/** Signs a manifest as a Sigstore bundle 0.3, and gives the bundle's bytes. */
export async function buildBundle(signer: Signer, subject: Digest): Promise<Uint8Array> {
  const { hint, pem } = signer.publicKey;
  const keySigner = {
    sign: async (data: Buffer) => ({
      signature: Buffer.from(await signer.sign(data)),
      key: { $case: 'publicKey' as const, hint, publicKey: pem },
    }),
  };
  const builder = new DSSEBundleBuilder({ signer: keySigner, witnesses: [] });
  const data = Buffer.from(buildStatement(subject));
  const bundle = await builder.create({ data, type: IN_TOTO_PAYLOAD });
  // The builder copies the hint into the envelope's keyid, and cosign refuses such a bundle.
  for (const signature of bundle.content.dsseEnvelope.signatures) signature.keyid = '';
  return Buffer.from(JSON.stringify(bundleToJSON(bundle)));
}

/** Signs a manifest in the legacy form: the payload, and its signature for the annotation. */
export async function buildLegacy(
  signer: Signer,
  subject: Digest,
  dockerReference: string,
): Promise<{ payload: Uint8Array; signature: string }> {
  const payload = Buffer.from(buildPayload(subject, dockerReference));
  const signature = Buffer.from(await signer.sign(payload)).toString('base64');
  return { payload, signature };
}
