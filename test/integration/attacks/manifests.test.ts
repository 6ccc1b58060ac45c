import { describe, expect, it } from 'vitest';
import { sha256 } from '../../../shared/digest.ts';
import { OCI_INDEX, OCI_MANIFEST } from '../../../shared/oci/media-types.ts';
import { refused } from '../../support/attacked-machine.ts';
import { useSignedMachine } from '../../support/signed-machine.ts';
import { putTinyImage, storedManifest } from '../../support/tiny-image.ts';

const VERSION = 'org.opencontainers.image.version';
const { attacked, serveAs, sign, usePolicy } = useSignedMachine();
const publish = async (text: string) => (await attacked.publish(text)).stored;

describe('what is served', () => {
  it('an old image under the new tag, below the floor', async () => {
    const old = await putTinyImage(attacked.store, [{ 'etc/os': 'old' }]);
    const stored = storedManifest({
      ...JSON.parse(Buffer.from(old.stored.bytes).toString()),
      annotations: { [VERSION]: '2026.1' },
    });
    await attacked.store.putManifest(stored, 'stable');
    await sign(stored);
    await usePolicy({ oldest: { version: '2026.2' } });
    expect(await attacked.update()).toMatchObject(
      refused('POLICY_REFUSED', /^oldest.version is not met/),
    );
  });

  it('an image that the policy denies', async () => {
    const stored = await publish('denied');
    await sign(stored);
    await usePolicy({ deniedDigests: [stored.digest] });
    expect(await attacked.update()).toMatchObject(refused('POLICY_REFUSED', /^deniedDigests/));
  });

  it('an image as if it were an index', async () => {
    const stored = await publish('two meanings');
    await sign(stored);
    serveAs(stored.bytes, OCI_INDEX);
    expect(await attacked.update()).toMatchObject(refused('MANIFEST_INVALID', /was served as/));
  });

  it.each([
    ['both an image and an index', (text: string) => text.replace('{', '{"manifests":[],')],
    ['one key twice', (text: string) => text.replace('{', '{"layers":[],')],
    [
      'a weaker digest',
      (text: string) => text.replace(/("layers":.*)sha256:[0-9a-f]{64}/, '$1md5:00'),
    ],
    [
      'no mediaType, and both',
      (text: string) =>
        text.replace('{', '{"manifests":[],').replace(`"mediaType":"${OCI_MANIFEST}",`, ''),
    ],
  ])('%s, signed', async (_name, spoil) => {
    const stored = await publish(_name);
    const bytes = Buffer.from(spoil(Buffer.from(stored.bytes).toString()));
    expect(bytes.equals(stored.bytes)).toBe(false);
    await sign({ ...stored, bytes, digest: sha256(bytes) });
    serveAs(bytes, OCI_MANIFEST);
    expect(await attacked.update()).toMatchObject(refused('MANIFEST_INVALID'));
  });

  it('an index in an index', async () => {
    const entry = { mediaType: OCI_INDEX, platform: { os: 'linux', architecture: 'amd64' } };
    let inner = storedManifest(
      { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] },
      OCI_INDEX,
    );
    for (let depth = 0; depth < 3; depth += 1) {
      await attacked.store.putManifest(inner, 'stable');
      const { digest, bytes } = inner;
      const manifests = [{ ...entry, digest, size: bytes.length, mediaType: OCI_MANIFEST }];
      inner = storedManifest({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }, OCI_INDEX);
    }
    attacked.hostile.tamper = undefined;
    serveAs(inner.bytes, OCI_INDEX);
    await sign(inner);
    expect(await attacked.update()).toMatchObject(
      refused('MANIFEST_INVALID', /names another index/),
    );
  });

  it('annotations of megabytes', async () => {
    const annotations = { a: 'x'.repeat(5 * 1024 * 1024) };
    serveAs(
      JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, annotations }),
      OCI_MANIFEST,
    );
    expect(await attacked.update()).toMatchObject(refused('LIMIT_EXCEEDED'));
  });
});
