import { rm } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { DELTA_ANNOTATION } from '../../../shared/delta/annotations.ts';
import { type Descriptor, parseManifest } from '../../../shared/oci/manifest.ts';
import { IMAGE_NAME } from '../../support/fleet.ts';
import { isBlob, useOfferedUpdate } from '../../support/offered-update.ts';
import { makeKey } from '../../support/signatures.ts';

const offer = useOfferedUpdate();

describe('a delta', () => {
  /** Takes the update as far as the download, which a bad delta must not keep from coming. */
  async function download() {
    const answer = await offer.machine.snaphost('update', '--download-only');
    expect(answer.status).toBe(0);
    expect(offer.look()).toEqual(offer.state);
    return answer.json;
  }

  /** The layer deltas between the two images. */
  async function deltaBlobs(): Promise<string[]> {
    const layers: Descriptor[] = [];
    for (const { digest } of await offer.fleet.repository.listReferrers(offer.good.stored.digest)) {
      const manifest = parseManifest((await offer.fleet.repository.getManifest(digest)).bytes);
      const content = `${DELTA_ANNOTATION}content`;
      layers.push(...manifest.layers.filter((one) => one.annotations?.[content] === 'image-layer'));
    }
    expect(layers).not.toEqual([]);
    return layers.map((layer) => layer.digest);
  }

  it('is taken when nothing is wrong with it', async () => {
    expect(await download()).toMatchObject({ method: 'delta', fallbackReason: null });
  });

  it('with a wrong bit gives way to the whole image', async () => {
    await rm(offer.downloads, { recursive: true });
    const blobs = await deltaBlobs();
    offer.proxy.handle = ({ request, pass }) => {
      const isDelta = blobs.some((digest) => isBlob(digest, request.url));
      const spoil = (body: Buffer) => Buffer.from(body).fill('x', body.length - 1);
      return pass(isDelta ? (answer) => ({ ...answer, body: spoil(answer.body) }) : undefined);
    };
    const { method, fallbackReason } = await download();
    expect(method).toBe('full');
    expect(fallbackReason).toContain('DIGEST_INVALID');
  });

  it('by a key that may not sign deltas gives way to the whole image', async () => {
    await offer.machine.write('policy', {
      version: 1,
      keys: {
        gateway: { pem: offer.fleet.key.publicPem },
        other: { pem: makeKey().publicKey.pem },
      },
      rules: [
        {
          ...{ repository: IMAGE_NAME, images: { signers: ['gateway'] } },
          deltas: { signers: ['other'] },
        },
      ],
    });
    const { method, fallbackReason } = await download();
    expect(method).toBe('full');
    expect(fallbackReason).toContain('SIGNATURE_INVALID');
  });

  it('of a gateway that plans nonsense gives way to the whole image', async () => {
    offer.proxy.handle = ({ request, pass }) =>
      pass(
        request.url?.endsWith('/_snapgate/plan')
          ? (answer) => ({ ...answer, body: Buffer.from('{"ways":"none"}') })
          : undefined,
      );
    const { method, fallbackReason } = await download();
    expect(method).toBe('full');
    expect(fallbackReason).toContain('malformed');
  });
});
