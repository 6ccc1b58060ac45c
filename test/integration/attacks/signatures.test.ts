import { describe, expect, it } from 'vitest';
import { OCI_INDEX, OCI_MANIFEST } from '../../../shared/oci/media-types.ts';
import { refused } from '../../support/attacked-machine.ts';
import { IMAGE_NAME } from '../../support/fleet.ts';
import {
  makeBundle,
  makeLegacy,
  payloadOf,
  putBundle,
  putLegacy,
  statementOf,
} from '../../support/signatures.ts';
import { release, stranger, useSignedMachine } from '../../support/signed-machine.ts';

const { attacked, sign, usePolicy } = useSignedMachine();
const publish = async (text: string) => (await attacked.publish(text)).stored;

describe('signatures', () => {
  it('an image without one', async () => {
    const { digest } = await publish('unsigned');
    expect(await attacked.update()).toMatchObject(refused('SIGNATURE_MISSING'));
    const explained = await attacked.machine.snaphost('policy', 'test');
    const refusal = { code: 'SIGNATURE_MISSING' };
    expect(explained).toMatchObject({
      status: 0,
      json: { accepted: false, repository: IMAGE_NAME, manifests: [{ digest, refusal }] },
    });
  });

  it('by an unknown key', async () => {
    await sign(await publish('unknown'), stranger);
    expect(await attacked.update()).toMatchObject(refused('SIGNATURE_INVALID'));
  });

  it.each([
    ['a revoked key', { validUntil: '2020-01-01T00:00:00Z' }, /was valid until/],
    ['a key that is not valid yet', { validFrom: '2999-01-01T00:00:00Z' }, /is valid from/],
  ])('by %s', async (_name, window, message) => {
    await sign(await publish(`by ${_name}`));
    await usePolicy({}, window);
    expect(await attacked.update()).toMatchObject(refused('POLICY_REFUSED', message));
  });

  it('one signer counted twice', async () => {
    const stored = await publish('twice');
    await sign(stored);
    await putBundle(
      attacked.store,
      stored,
      Buffer.concat([makeBundle(release, stored.digest), Buffer.from(' ')]),
    );
    await putLegacy(attacked.store, stored.digest, [makeLegacy(release, payloadOf(stored.digest))]);
    await usePolicy({ images: { signers: ['release', 'second'], threshold: 2 } });
    expect(await attacked.update()).toMatchObject(refused('POLICY_REFUSED', /count: release;/));
  });

  it('of another predicate type, reused', async () => {
    const stored = await publish('predicate');
    const statement = { ...statementOf(stored.digest), predicateType: 'https://spdx.dev/Document' };
    await putBundle(attacked.store, stored, makeBundle(release, stored.digest, { statement }));
    expect(await attacked.update()).toMatchObject(refused('SIGNATURE_INVALID', /predicateType/));
  });

  it('of another image, moved here', async () => {
    const other = await publish('signed before');
    const stored = await publish('moved');
    await putBundle(attacked.store, stored, makeBundle(release, other.digest));
    expect(await attacked.update()).toMatchObject(refused('SIGNATURE_INVALID', /another digest/));
  });

  it('ten thousand referrers, none of them good', async () => {
    const stored = await publish('referrers');
    const bad = await sign(stored, stranger);
    const entry = { mediaType: OCI_MANIFEST, digest: bad, size: 700 };
    const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: Array(10_000).fill(entry) };
    attacked.hostile.paths.length = 0;
    attacked.hostile.tamper = ({ url }, response) => {
      if (!url?.includes('/referrers/')) return false;
      response.writeHead(200, { 'content-type': OCI_INDEX }).end(JSON.stringify(index));
      return true;
    };
    expect(await attacked.update()).toMatchObject(refused('SIGNATURE_INVALID'));
    expect(attacked.hostile.paths.length).toBeLessThan(1200);
  });
});
