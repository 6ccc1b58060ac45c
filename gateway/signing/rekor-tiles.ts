import { createHash, X509Certificate } from 'node:crypto';
import { TransparencyLogEntry } from '@sigstore/protobuf-specs';
import type { SignatureBundle, VerificationMaterial } from '@sigstore/sign';
import { SnapgateError } from '../../shared/errors.ts';
import { readBody } from '../../shared/registry/transport.ts';

/** Largest answer read, in bytes. An entry and its proof are some kilobytes. */
const MAX_ANSWER = 256 * 1024;
const KIND = { kind: 'hashedrekord', version: '0.0.2' } as const;

/** A transparency log of API version 2 (rekor-tiles) as a witness of signatures. */
export type RekorTilesWitness = {
  testify(signature: SignatureBundle, certificate: string): Promise<VerificationMaterial>;
};

/**
 * Has each signature of a DSSE envelope entered as a `hashedrekord`: the digest of what is signed,
 * the envelope's pre-authentication encoding, beside signature and certificate. The statement itself
 * stays out of the log. `timeoutMs` bounds an answer.
 */
export function rekorTilesWitness(url: URL, timeoutMs: number): RekorTilesWitness {
  return {
    async testify(signature, certificate) {
      const answer = await post(url, requestOf(signature, certificate), timeoutMs);
      const entry = TransparencyLogEntry.fromJSON(answer);
      const { logId, kindVersion, inclusionProof } = entry;
      const isRight = kindVersion?.kind === KIND.kind && kindVersion.version === KIND.version;
      if (logId === undefined || !isRight || inclusionProof === undefined) {
        throw failed(url, 'its answer is no entry with a proof');
      }
      return { tlogEntries: [{ ...entry, logId, kindVersion }] };
    },
  };
}

function requestOf(signature: SignatureBundle, certificate: string): object {
  if (signature.$case !== 'dsseEnvelope') throw new Error('only DSSE envelopes are entered');
  const { payloadType, payload, signatures } = signature.dsseEnvelope;
  const digest = createHash('sha256').update(preAuthEncoding(payloadType, payload)).digest();
  const x509Certificate = { rawBytes: new X509Certificate(certificate).raw.toString('base64') };
  return {
    hashedRekordRequestV002: {
      digest: digest.toString('base64'),
      signature: {
        content: signatures[0]?.sig.toString('base64'),
        verifier: { x509Certificate, keyDetails: 'PKIX_ECDSA_P256_SHA_256' },
      },
    },
  };
}

/** What the signature of an envelope is made over (DSSE 1.0, "Signature Definition"). */
function preAuthEncoding(type: string, payload: Uint8Array): Buffer {
  const head = `DSSEv1 ${Buffer.byteLength(type)} ${type} ${payload.length} `;
  return Buffer.concat([Buffer.from(head), payload]);
}

async function post(url: URL, body: object, timeoutMs: number): Promise<unknown> {
  const answer = await fetch(new URL('api/v2/log/entries', `${url.href.replace(/\/$/, '')}/`), {
    method: 'POST',
    headers: { 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify(body),
    redirect: 'error',
    signal: AbortSignal.timeout(timeoutMs),
  });
  const { bytes, truncated } = await readBody(answer.body ?? [], MAX_ANSWER);
  if (truncated) throw failed(url, 'its answer is too large');
  if (!answer.ok) throw failed(url, `it answered ${answer.status}`);
  return JSON.parse(Buffer.from(bytes).toString('utf8'));
}

function failed({ host }: URL, reason: string): SnapgateError {
  return new SnapgateError('UPSTREAM_FAILED', `the transparency log: ${reason}`, { where: host });
}
