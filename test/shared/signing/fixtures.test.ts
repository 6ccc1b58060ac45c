import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseDigest } from '../../../shared/digest.ts';
import { parseManifest } from '../../../shared/oci/manifest.ts';
import { verifyBundle } from '../../../shared/signing/bundle.ts';
import { parsePublicKey } from '../../../shared/signing/public-key.ts';
import { verifySimpleSigning } from '../../../shared/signing/simple-signing.ts';

const read = (path: string) => readFileSync(`test/fixtures/signing/${path}`);
const text = (path: string) => read(path).toString().trim();
const subject = parseDigest(text('subject'));
const cosign2 = parsePublicKey(text('cosign2/cosign.pub'));
const cosign3 = parsePublicKey(text('cosign3/cosign.pub'));

describe('signatures that cosign made', () => {
  it.each(['bundle.json', 'bundle-statement-0.1.json'])('verify: %s', (file) => {
    const bundle = read(`cosign3/${file}`);
    expect(verifyBundle(bundle, subject, [cosign2, cosign3])).toEqual({ good: true, key: cosign3 });
    expect(verifyBundle(bundle, subject, [cosign2])).toMatchObject({ good: false });
  });

  it.each(['attestation-bundle.json', 'blob-bundle.json'])(
    'say nothing of an image: %s',
    (file) => {
      expect(verifyBundle(read(`cosign3/${file}`), subject, [cosign3])).toMatchObject({
        good: false,
        reason: expect.not.stringContaining('does not fit'),
      });
    },
  );

  it.each([
    ['cosign2', cosign2, cosign3],
    ['cosign3', cosign3, cosign2],
  ])('verify in the legacy form: %s', (folder, key, other) => {
    const payload = read(`${folder}/payload.json`);
    const signature = text(`${folder}/payload.sig`);
    expect(verifySimpleSigning(payload, signature, subject, [key])).toEqual({ good: true, key });
    expect(verifySimpleSigning(payload, signature, subject, [other])).toMatchObject({
      good: false,
    });
  });

  it('stand in manifests that we read', () => {
    const bundle = parseManifest(read('cosign3/bundle-manifest.json'));
    expect(bundle.subject?.digest).toBe(subject);
    expect(parseManifest(read('legacy-manifest.json')).layers).toHaveLength(2);
  });
});
