import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDigest } from '../../../shared/digest.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { parsePolicy } from '../../../shared/policy/policy.ts';
import { verifyBundle } from '../../../shared/signing/bundle.ts';
import { parsePublicKey } from '../../../shared/signing/public-key.ts';
import { verifySimpleSigning } from '../../../shared/signing/simple-signing.ts';

const read = (path: string) => readFileSync(`test/fixtures/signing/${path}`);
const subject = parseDigest(read('subject').toString());
const pem = read('cosign3/cosign.pub').toString();
const key = parsePublicKey(pem);
const bundle = read('cosign3/bundle.json');
const payload = read('cosign3/payload.json');
const signature = read('cosign3/payload.sig').toString();

/** A few bytes of something replaced, inserted or cut. */
const mutated = (original: Buffer) =>
  fc
    .array(
      fc.record({
        at: fc.nat(original.length - 1),
        cut: fc.nat(8),
        insert: fc.uint8Array({ maxLength: 8 }),
      }),
      { minLength: 1, maxLength: 3 },
    )
    .map((edits) =>
      edits.reduce((bytes, { at, cut, insert }) => {
        return Buffer.concat([bytes.subarray(0, at), insert, bytes.subarray(at + cut)]);
      }, original),
    );

/** What of a bundle a signature is about, read without the code under test. */
function signedPart(bytes: Buffer): unknown {
  const { dsseEnvelope } = JSON.parse(bytes.toString());
  const decoded = (text: string) => Buffer.from(text, 'base64').toString('latin1');
  return [
    dsseEnvelope.payloadType,
    decoded(dsseEnvelope.payload),
    decoded(dsseEnvelope.signatures[0].sig),
  ];
}

describe('what was changed at random', () => {
  it('is no good bundle, unless what was signed is still the same', () => {
    fc.assert(
      fc.property(mutated(bundle), (bytes) => {
        const verdict = verifyBundle(bytes, subject, [key]);
        if (verdict.good) expect(signedPart(bytes)).toEqual(signedPart(bundle));
      }),
      { numRuns: 2000 },
    );
  });

  it('is no good legacy payload', () => {
    fc.assert(
      fc.property(mutated(payload), (bytes) => {
        const { good } = verifySimpleSigning(bytes, signature, subject, [key]);
        expect(good).toBe(bytes.equals(payload));
      }),
      { numRuns: 500 },
    );
  });

  it('is a policy with the same meaning or one clear error', () => {
    const keys = { a: { pem } };
    const rules = [{ repository: 'a.test/os/*', images: { signers: ['a'], threshold: 1 } }];
    const policy = Buffer.from(JSON.stringify({ version: 1, keys, rules }));
    fc.assert(
      fc.property(mutated(policy), (bytes) => {
        try {
          for (const rule of parsePolicy(bytes.toString()).rules) {
            if (!('signers' in rule.images)) throw new Error('a group became another demand');
            expect(rule.images.threshold).toBeGreaterThan(0);
            expect(rule.images.signers.length).toBeGreaterThanOrEqual(rule.images.threshold);
          }
        } catch (thrown) {
          if (!(thrown instanceof SnapgateError)) throw thrown;
          expect(['CONFIG_INVALID', 'KEY_INVALID']).toContain(thrown.code);
        }
      }),
      { numRuns: 1000 },
    );
  });
});
