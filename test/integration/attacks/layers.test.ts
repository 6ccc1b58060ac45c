import { gzipSync, constants as zlib, zstdCompressSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { OCI_LAYER_GZIP, OCI_LAYER_ZSTD } from '../../../shared/oci/media-types.ts';
import { refused } from '../../support/attacked-machine.ts';
import { rawTar } from '../../support/raw-tar.ts';
import { useSignedMachine } from '../../support/signed-machine.ts';

const { attacked, publishLayer } = useSignedMachine();
const linkByPax = { name: 'link', type: '1', link: 'a', pax: { linkpath: '../../etc/shadow' } };

describe('what a layer holds, although the publisher signed it', () => {
  it('a bomb of gzip', async () => {
    const tar = Buffer.alloc(64 * 1024 * 1024);
    await publishLayer(tar, gzipSync(tar, { level: 9 }), OCI_LAYER_GZIP);
    expect((await attacked.update()).error.code).toMatch(/^(LIMIT_EXCEEDED|TAR_INVALID)$/);
  });

  it('a bomb of zstd', async () => {
    const tar = Buffer.alloc(64 * 1024 * 1024);
    await publishLayer(tar, zstdCompressSync(tar), OCI_LAYER_ZSTD);
    expect((await attacked.update()).error.code).toMatch(/^(LIMIT_EXCEEDED|TAR_INVALID)$/);
  });

  it('a window of zstd over the limit', async () => {
    const tar = rawTar([{ name: 'a', content: Buffer.alloc(6 * 1024 * 1024, 1) }]);
    const params = { [zlib.ZSTD_c_windowLog]: 23, [zlib.ZSTD_c_contentSizeFlag]: 0 };
    await publishLayer(tar, zstdCompressSync(tar, { params }), OCI_LAYER_ZSTD);
    expect(await attacked.update()).toMatchObject(refused('LIMIT_EXCEEDED'));
  });

  it.each([
    ['a way up', { name: '../escape', content: 'x' }],
    ['a way up in the middle', { name: 'a/../../escape', content: 'x' }],
    ['a hard link out', { name: 'link', type: '1', link: '../../etc/shadow' }],
    ['an absolute path', { name: '/escape', content: 'x' }],
    ['an absolute hard link', { name: 'link', type: '1', link: '/etc/shadow' }],
    ['a way up in a pax header', { name: 'b', content: 'x', pax: { path: 'a/../../escape' } }],
    ['a way up of a hard link in a pax header', linkByPax],
    ['a device behind a way up', { name: '../null', type: '3', major: 1, minor: 3 }],
    ['a whiteout of what is above', { name: 'usr/.wh...', content: '' }],
    ['a whiteout of the folder itself', { name: 'usr/.wh..', content: '' }],
    ['a whiteout behind a way up', { name: '../.wh.etc', content: '' }],
    ['a name that is longer than any', { name: 'x', content: '', pax: { path: 'n'.repeat(300) } }],
  ])('%s', async (_name, entry) => {
    const tar = rawTar([{ name: 'a', content: 'x' }, entry]);
    await publishLayer(tar, gzipSync(tar), OCI_LAYER_GZIP);
    expect(await attacked.update()).toMatchObject(refused('TAR_INVALID'));
  });

  it('a file behind a symbolic link that leads out', async () => {
    const tar = rawTar([
      { name: 'out', type: '2', link: '/etc' },
      { name: 'out/escape', content: 'x' },
    ]);
    await publishLayer(tar, gzipSync(tar), OCI_LAYER_GZIP);
    expect(await attacked.update()).toMatchObject(refused('TAR_INVALID'));
  });

  it('another layer than the config names', async () => {
    const tar = rawTar([{ name: 'a', content: 'x' }]);
    const other = rawTar([{ name: 'a', content: 'y' }]);
    await publishLayer(tar, gzipSync(other), OCI_LAYER_GZIP);
    expect(await attacked.update()).toMatchObject(refused('DIFF_ID_MISMATCH'));
  });
});
