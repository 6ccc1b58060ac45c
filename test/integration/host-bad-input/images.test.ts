import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { sha256 } from '../../../shared/digest.ts';
import { content, useOfferedUpdate } from '../../support/offered-update.ts';
import { rawTar } from '../../support/raw-tar.ts';
import { tarOf } from '../../support/tiny-image.ts';

const offer = useOfferedUpdate();

describe('a signed image', () => {
  it('that says its layer is smaller than it is', async () => {
    const layer = await offer.layerOf(await tarOf({ a: content }));
    await offer.publish([{ ...layer, size: layer.size - 1000 }]);
    await offer.expectRefusal('SIZE_INVALID', 4, '--full');
  });

  it('that says its layer is larger than it is', async () => {
    const layer = await offer.layerOf(await tarOf({ a: content }));
    await offer.publish([{ ...layer, size: layer.size + 1000 }]);
    await offer.expectRefusal('SIZE_INVALID', 4, '--full');
  });

  it('whose layer is so large that it cannot fit', async () => {
    const layer = await offer.layerOf(await tarOf({ a: content }));
    await offer.publish([{ ...layer, size: 1e15 }]);
    await offer.expectRefusal('NO_SPACE', 6, '--full');
  });

  it('whose layer is not the one of its config', async () => {
    const layer = await offer.layerOf(await tarOf({ a: content }));
    await offer.publish([{ ...layer, diffId: sha256('another') }]);
    await offer.expectRefusal('DIFF_ID_MISMATCH', 4, '--full');
  });

  it.for([
    ['..', [{ name: '../evil', content: 'x' }]],
    ['.. in the middle', [{ name: 'usr/../../evil', content: 'x' }]],
    ['an absolute path', [{ name: '/etc/evil', content: 'x' }]],
    [
      'a symlink as a parent',
      [
        { name: 'link', type: '2', link: '/etc' },
        { name: 'link/evil', content: 'x' },
      ],
    ],
    ['a hard link out of the tree', [{ name: 'link', type: '1', link: '../../etc/passwd' }]],
    ['a hard link to nothing', [{ name: 'link', type: '1', link: 'no/such/file' }]],
  ] as const)('with a layer with %s', async ([, entries]) => {
    await offer.publish([await offer.layerOf(rawTar(entries))]);
    await offer.expectRefusal('TAR_INVALID', 4, '--full');
  });

  it('with a layer that is no tar stream', async () => {
    await offer.publish([await offer.layerOf(randomBytes(10_000))]);
    await offer.expectRefusal('TAR_INVALID', 4, '--full');
  });

  it.for(['gzip', 'zstd'] as const)('with a %s bomb', async (packing) => {
    const limits = { layerBytes: 20_000_000 };
    await offer.configure({ limits });
    const tar = await tarOf({ bomb: Buffer.alloc(60_000_000) });
    const layer = await offer.layerOf(tar, packing);
    expect(layer.size).toBeLessThan(100_000);
    await offer.publish([layer]);
    await offer.expectRefusal('LIMIT_EXCEEDED', 4, '--full');
  });
});
