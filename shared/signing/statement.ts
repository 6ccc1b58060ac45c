import * as v from 'valibot';
import { type Digest, digestHex } from '../digest.ts';
import { parseStrictJson } from '../strict-json.ts';

/** `payloadType` of the DSSE envelope of an in-toto statement. */
export const IN_TOTO_PAYLOAD = 'application/vnd.in-toto+json';
/**
 * The predicate type of an image signature. It is pinned: a statement of another type, say an SBOM
 * or a revocation, that the same key signed is no image signature.
 */
export const SIGN_PREDICATE = 'https://sigstore.dev/cosign/sign/v1';
const STATEMENT_TYPES = [
  'https://in-toto.io/Statement/v1',
  'https://in-toto.io/Statement/v0.1',
] as const;

const statementSchema = v.object({
  _type: v.picklist(STATEMENT_TYPES, 'is no in-toto statement of version 1 or 0.1'),
  predicateType: v.literal(SIGN_PREDICATE, 'is not that of an image signature'),
  subject: v.strictTuple(
    [v.object({ digest: v.object({ sha256: v.string() }) })],
    'must name one subject by sha256',
  ),
});

/** The in-toto statement that an image signature is made over, as JSON text. */
export function buildStatement(subject: Digest): string {
  return JSON.stringify({
    _type: STATEMENT_TYPES[0],
    subject: [{ digest: { sha256: digestHex(subject) }, annotations: {} }],
    predicateType: SIGN_PREDICATE,
    predicate: {},
  });
}

/**
 * Checks that a signed statement is an image signature of `subject` and nothing else. Returns why it
 * is not, or undefined. The signature itself is the caller's to check.
 */
export function statementProblem(payload: Uint8Array, subject: Digest): string | undefined {
  let json: unknown;
  try {
    json = parseStrictJson(payload);
  } catch (thrown) {
    return `the statement: ${(thrown as Error).message}`;
  }
  const parsed = v.safeParse(statementSchema, json, { abortEarly: true });
  if (!parsed.success) {
    const [issue] = parsed.issues;
    return `the statement: ${v.getDotPath(issue) ?? 'it'} ${issue.message}`;
  }
  const [{ digest }] = parsed.output.subject;
  return digest.sha256 === digestHex(subject) ? undefined : 'the statement is about another digest';
}
