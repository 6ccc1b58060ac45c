import { describe, expect, it } from 'vitest';
import { type Digest, sha256 } from '../../../shared/digest.ts';
import { verifyBundle } from '../../../shared/signing/bundle.ts';
import { buildPayload, verifySimpleSigning } from '../../../shared/signing/simple-signing.ts';
import { buildStatement } from '../../../shared/signing/statement.ts';
import {
  type BundleChanges,
  makeBundle,
  makeKey,
  makeLegacy,
  payloadOf,
  statementOf,
} from '../../support/signatures.ts';

const key = makeKey();
const other = makeKey();
const keys = [other.publicKey, key.publicKey];
const subject = sha256('the manifest');
const another = sha256('another manifest');

describe('verifyBundle', () => {
  const check = (changes: BundleChanges = {}, digest: Digest = subject) =>
    verifyBundle(makeBundle(key, subject, changes), digest, keys);

  it('takes a signature by a known key', () => {
    expect(check()).toEqual({ good: true, key: key.publicKey });
  });

  it('takes our own statement, and one of version 0.1', () => {
    expect(check({ statement: buildStatement(subject) })).toMatchObject({ good: true });
    const statement = { ...statementOf(subject), _type: 'https://in-toto.io/Statement/v0.1' };
    expect(check({ statement })).toMatchObject({ good: true });
  });

  it('tries every key when there is no hint', () => {
    expect(check({ hint: '' })).toEqual({ good: true, key: key.publicKey });
  });

  it('does not mind entries of logs that are not configured', () => {
    const spoil: BundleChanges['spoil'] = (bundle) => ({
      ...bundle,
      verificationMaterial: {
        ...bundle.verificationMaterial,
        tlogEntries: [
          {
            ...{ logIndex: '1', logId: { keyId: 'AA==' }, integratedTime: '1700000000' },
            kindVersion: { kind: 'hashedrekord', version: '0.0.1' },
            inclusionProof: { rootHash: 'AA==', checkpoint: { envelope: 'x' } },
          },
        ],
        timestampVerificationData: { rfc3161Timestamps: [{ signedTimestamp: 'AAAA' }] },
      },
    });
    expect(check({ spoil })).toMatchObject({ good: true });
  });

  const statement = statementOf(subject);
  const withEnvelope =
    (change: (envelope: { signatures: { sig: string }[]; payload: string }) => object) =>
    (bundle: { dsseEnvelope: { signatures: { sig: string }[]; payload: string } }) => ({
      ...bundle,
      dsseEnvelope: { ...bundle.dsseEnvelope, ...change(bundle.dsseEnvelope) },
    });
  const [subjectEntry] = statement.subject;

  it.each<[string, BundleChanges, string]>([
    ['another digest', { statement: statementOf(another) }, 'another digest'],
    [
      'another predicate type',
      { statement: { ...statement, predicateType: 'https://slsa.dev/provenance/v1' } },
      'predicateType',
    ],
    [
      'no predicate type',
      { statement: { ...statement, predicateType: undefined } },
      'predicateType',
    ],
    ['another statement', { statement: { ...statement, _type: 'https://x.test/v1' } }, '_type'],
    ['no subject', { statement: { ...statement, subject: [] } }, 'subject'],
    [
      'two subjects',
      { statement: { ...statement, subject: [subjectEntry, subjectEntry] } },
      'subject',
    ],
    [
      'a subject by another algorithm',
      { statement: { ...statement, subject: [{ digest: { sha512: 'ab' } }] } },
      'subject',
    ],
    [
      'a key that stands twice in the statement',
      { statement: buildStatement(subject).replace('{', '{"predicateType":"x",') },
      'twice',
    ],
    ['a statement that is no JSON', { statement: 'hello' }, 'JSON'],
    ['another payload type', { payloadType: 'application/json' }, 'in-toto'],
    [
      'another bundle version',
      { mediaType: 'application/vnd.dev.sigstore.bundle+json;version=0.2' },
      '0.3',
    ],
    ['an unknown hint', { hint: 'AAAA' }, 'does not count'],
    ["another key's hint", { hint: other.publicKey.hint }, 'does not fit'],
    [
      'two signatures',
      { spoil: withEnvelope(({ signatures }) => ({ signatures: [...signatures, ...signatures] })) },
      'signatures',
    ],
    ['no signature', { spoil: withEnvelope(() => ({ signatures: [] })) }, 'signatures'],
    [
      'a tampered payload',
      {
        spoil: withEnvelope(() => ({
          payload: Buffer.from(buildStatement(subject).replace('{}', '{"a":1}')).toString('base64'),
        })),
      },
      'does not fit',
    ],
    [
      'a tampered signature',
      { spoil: withEnvelope(() => ({ signatures: [{ sig: 'MEUCIQ==' }] })) },
      'does not fit',
    ],
    [
      'a certificate',
      {
        spoil: (bundle) => ({
          ...bundle,
          verificationMaterial: { certificate: { rawBytes: 'AAAA' }, tlogEntries: [] },
        }),
      },
      'certificate',
    ],
    [
      'a signed blob',
      {
        spoil: ({ dsseEnvelope: _, ...bundle }) => ({
          ...bundle,
          messageSignature: {
            messageDigest: { algorithm: 'SHA2_256', digest: 'AAAA' },
            signature: 'AAAA',
          },
        }),
      },
      'DSSE',
    ],
    ['an array', { spoil: () => [] }, ''],
    ['null', { spoil: () => 'null' }, ''],
  ])('refuses %s', (_name, changes, reason) => {
    expect(check(changes)).toMatchObject({
      good: false,
      reason: expect.stringContaining(reason),
    });
  });

  it('refuses a bundle whose keys stand twice, and bytes that are no JSON', () => {
    const text = makeBundle(key, subject).toString();
    const twice = Buffer.from(text.replace('{', '{"mediaType":"x",'));
    expect(verifyBundle(twice, subject, keys)).toMatchObject({ good: false });
    expect(verifyBundle(Buffer.from([0xff]), subject, keys)).toMatchObject({ good: false });
  });

  it('refuses a good bundle that is asked about another manifest, or without keys', () => {
    expect(check({}, another)).toMatchObject({ good: false });
    expect(verifyBundle(makeBundle(key, subject), subject, [])).toMatchObject({ good: false });
  });
});

describe('verifySimpleSigning', () => {
  const check = (payload: unknown, signer = key) => {
    const made = makeLegacy(signer, payload);
    return verifySimpleSigning(made.payload, made.signature, subject, keys);
  };
  const good = payloadOf(subject);

  it('takes a signature by a known key, also with an optional part', () => {
    expect(check(good)).toEqual({ good: true, key: key.publicKey });
    expect(check(buildPayload(subject, 'a.test/b'))).toMatchObject({ good: true });
    expect(check({ ...good, optional: { creator: 'x' } })).toMatchObject({ good: true });
  });

  const critical = (changes: object) => ({ ...good, critical: { ...good.critical, ...changes } });

  it.each<[string, unknown, string]>([
    ['another digest', payloadOf(another), 'another digest'],
    ['another type', critical({ type: 'atomic container signature' }), 'type'],
    ['one critical field more', critical({ extra: 1 }), 'extra'],
    ['no identity', critical({ identity: undefined }), 'identity'],
    ['no image', critical({ image: {} }), 'docker-manifest-digest'],
    ['no critical part', { optional: null }, 'critical'],
    ['JSON with a key twice', JSON.stringify(good).replace('{', '{"critical":1,'), 'twice'],
    ['no JSON', 'hello', 'JSON'],
  ])('refuses %s', (_name, payload, reason) => {
    expect(check(payload)).toMatchObject({ good: false, reason: expect.stringContaining(reason) });
  });

  it('refuses an unknown key, a tampered payload and what is no signature', () => {
    expect(check(good, makeKey())).toMatchObject({ good: false });
    const { payload, signature } = makeLegacy(key, good);
    const tampered = Buffer.from(payload.toString().replace('v1', 'v2'));
    const verdict = (bytes: Uint8Array, text: string) =>
      verifySimpleSigning(bytes, text, subject, keys);
    expect(verdict(tampered, signature)).toMatchObject({ good: false });
    for (const text of ['', '!', 'AAAA', `${signature}\n`, 'A'.repeat(5000)]) {
      expect(verdict(payload, text)).toMatchObject({ good: false });
    }
  });
});
