import { verify } from 'node:crypto';
import * as v from 'valibot';
import type { Digest } from '../digest.ts';
import { parseStrictJson } from '../strict-json.ts';
import type { PublicKey } from './public-key.ts';
import { bad, type Verdict, verdictOf } from './verdict.ts';

/** Largest legacy payload read, in bytes. */
export const MAX_PAYLOAD_BYTES = 64 * 1024;
/** Annotation of a payload's layer that holds its signature: base64 of an ECDSA signature in DER. */
export const SIGNATURE_ANNOTATION = 'dev.cosignproject.cosign/signature';
const PAYLOAD_TYPE = 'cosign container image signature';
const MAX_SIGNATURE_TEXT = 1024;

const payloadSchema = v.object({
  critical: v.strictObject({
    type: v.literal(PAYLOAD_TYPE, 'is not that of an image signature'),
    image: v.strictObject({ 'docker-manifest-digest': v.string() }),
    identity: v.strictObject({ 'docker-reference': v.string() }),
  }),
  optional: v.nullish(v.record(v.string(), v.unknown())),
});

/** The payload of a legacy signature (containers/image, "simple signing"), as JSON text. */
export function buildPayload(subject: Digest, dockerReference: string): string {
  return JSON.stringify({
    critical: {
      identity: { 'docker-reference': dockerReference },
      image: { 'docker-manifest-digest': subject },
      type: PAYLOAD_TYPE,
    },
    optional: null,
  });
}

/**
 * Checks a legacy cosign signature of `subject` by one of `keys`. The docker-reference is not
 * compared: an image keeps its signature under every name that a mirror or a gateway gives it.
 * Never throws.
 */
export function verifySimpleSigning(
  payload: Uint8Array,
  signature: string,
  subject: Digest,
  keys: readonly PublicKey[],
): Verdict {
  return verdictOf(() => {
    if (signature.length > MAX_SIGNATURE_TEXT || !/^[A-Za-z0-9+/]+={0,2}$/.test(signature)) {
      return bad('the signature annotation is missing or is not base64');
    }
    const bytes = Buffer.from(signature, 'base64');
    const key = keys.find(({ keyObject }) => verify('sha256', payload, keyObject, bytes));
    if (key === undefined) {
      return bad('it was made by a key that does not count here, or does not fit the content');
    }
    const parsed = v.safeParse(payloadSchema, parseStrictJson(payload), { abortEarly: true });
    if (!parsed.success) {
      const [issue] = parsed.issues;
      return bad(`the payload: ${v.getDotPath(issue) ?? 'it'} ${issue.message}`);
    }
    const named = parsed.output.critical.image['docker-manifest-digest'];
    return named === subject ? { good: true, key } : bad('the payload is about another digest');
  });
}

/** The docker-reference of a legacy payload that was verified; undefined when there is none. */
export function payloadReference(payload: Uint8Array): string | undefined {
  const parsed = v.safeParse(payloadSchema, JSON.parse(Buffer.from(payload).toString('utf8')));
  return parsed.success ? parsed.output.critical.identity['docker-reference'] : undefined;
}
