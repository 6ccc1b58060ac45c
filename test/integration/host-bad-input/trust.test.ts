import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { digestHex } from '../../../shared/digest.ts';
import type { Descriptor } from '../../../shared/oci/manifest.ts';
import { policyFor } from '../../support/fleet.ts';
import { base, content, useOfferedUpdate } from '../../support/offered-update.ts';
import { makeKey } from '../../support/signatures.ts';
import { spoilSignatures } from '../../support/spoil-signatures.ts';
import { putTinyImage, type TinyImage } from '../../support/tiny-image.ts';

const offer = useOfferedUpdate();

describe('trust', () => {
  it('is refused without a policy', async () => {
    await rm(join(offer.machine.root, 'etc/snaphost/policy.json'));
    await offer.expectRefusal('POLICY_REFUSED', 3);
    expect(offer.proxy.seen.filter((line) => line.includes('/blobs/'))).not.toContain(
      `GET /v2/os/image/blobs/${offer.layer.digest}`,
    );
  });

  it('is refused by a policy that cannot be read', async () => {
    await offer.machine.write('policy', { version: 2 });
    await offer.expectRefusal('CONFIG_INVALID', 2);
  });

  it('is refused to an image without a signature', async () => {
    await putTinyImage(offer.fleet.open('raw/image'), [base, { new: '1' }], { tag: 'stable' });
    await offer.configure({ repository: 'raw/image' });
    await offer.expectRefusal('SIGNATURE_MISSING', 3);
  });

  it('is refused to a key that the policy does not name', async () => {
    await offer.machine.write('policy', policyFor(makeKey().publicKey.pem));
    const error = await offer.expectRefusal('SIGNATURE_INVALID', 3);
    expect(error.hint).toContain('gateway.test/os/image');
  });

  it('is refused to a signature with a wrong bit', async () => {
    const image = await putTinyImage(offer.fleet.repository, [base, { spoilt: '1' }], {
      tag: 'stable',
    });
    await offer.machine.snaphost('check');
    await spoilSignatures(offer.fleet.repository, image.stored);
    await offer.expectRefusal('SIGNATURE_INVALID', 3);
  });
});

/** Asks the gateway how to come to an image, and so has it signed. */
async function plan({ stored }: TinyImage): Promise<void> {
  const url = `${offer.fleet.gateway.url}/v2/os/image/_snapgate/plan`;
  const body = JSON.stringify({ target: stored.digest, have: [] });
  const answer = await fetch(url, { method: 'POST', body });
  expect(answer.status).toBe(200);
  await answer.body?.cancel();
}

describe('a tag', () => {
  it('that moves between two steps does not mix two images', async () => {
    const other = await putTinyImage(offer.fleet.repository, [base, { moved: content }], {
      tag: 'other',
    });
    await plan(other);
    const moves = [offer.good, other, offer.good];
    offer.proxy.handle = async ({ pass }) => {
      // What the tag is when it is asked for its digest, then for its manifest, and from then on.
      const next = moves.shift();
      if (next !== undefined) await offer.fleet.repository.putManifest(next.stored, 'stable');
      await pass();
    };
    const { json } = await offer.machine.snaphost('update', '--download-only', '--full');
    expect(json).toMatchObject({ to: other.stored.digest, method: 'full' });
    const layer = other.layers[1] as Descriptor;
    expect(await readdir(offer.downloads)).toEqual([digestHex(layer.digest)]);
    expect(offer.look()).toEqual(offer.state);
  });
});
