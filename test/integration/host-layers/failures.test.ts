import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildLayer } from '../../../host-client/storage/layer-builder.ts';
import { Staging } from '../../../host-client/storage/staging.ts';
import { sha256 } from '../../../shared/digest.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { mountBtrfs } from '../../support/btrfs.ts';
import { useLayerStaging } from '../../support/layer-staging.ts';
import { plainPieces } from '../../support/podman-storage.ts';
import { type RawEntry, rawTar } from '../../support/raw-tar.ts';

describe.each([1, 2] as const)('layers built by btrfs receive, version %i', (version) => {
  const layers = useLayerStaging(version);

  const staged = () => readdirSync(layers.staging.folder);

  it('leave nothing of a stream that is not the one named', async () => {
    await layers.staging.clear();
    const tar = rawTar([{ name: 'a', content: 'x' }]);
    const wrong = layers.build(tar, undefined, { diffId: sha256('something else') });
    await expect(wrong).rejects.toMatchObject({ code: 'DIFF_ID_MISMATCH' });
    const short = layers.build(tar, undefined, { pieces: plainPieces(tar.subarray(0, 400)) });
    await expect(short).rejects.toMatchObject({ code: 'TAR_INVALID' });
    const broken = async function* () {
      yield { bytes: tar.subarray(0, 512) };
      throw new SnapgateError('UPSTREAM_FAILED', 'the line broke');
    };
    const torn = layers.build(tar, undefined, { pieces: broken() });
    await expect(torn).rejects.toMatchObject({ code: 'UPSTREAM_FAILED' });
    expect(staged()).toEqual([]);
  });

  const parentOfHostile = [
    { name: 'file', content: 'x' },
    { name: 'out', type: '2', link: '../../../etc' },
    { name: 'loop', type: '2', link: 'loop' },
    { name: 'dangling', type: '2', link: 'nothing' },
  ];
  const hostile: Record<string, RawEntry[]> = {
    'a path with ..': [{ name: 'a/../../x' }],
    'an absolute path': [{ name: '/etc/passwd' }],
    'a link of its own as a parent': [
      { name: 'l', type: '2', link: '/etc' },
      { name: 'l/passwd', content: 'x' },
    ],
    'a link out of the tree as a parent': [{ name: 'out/passwd' }],
    'a loop of links as a parent': [{ name: 'loop/x' }],
    'a link to nothing as a parent': [{ name: 'dangling/x' }],
    'a file as a parent': [{ name: 'file/x' }],
    'a hard link out of the tree': [{ name: 'h', type: '1', link: '../../etc/passwd' }],
    'an absolute hard link': [{ name: 'h', type: '1', link: '/etc/passwd' }],
    'a hard link through a link out of the tree': [{ name: 'h', type: '1', link: 'out/passwd' }],
    'a hard link to nothing': [{ name: 'h', type: '1', link: 'nothing-there' }],
    'a hard link to itself': [{ name: 'file', type: '1', link: 'file' }],
    'a hard link to a directory': [
      { name: 'd', type: '5' },
      { name: 'h', type: '1', link: 'd' },
    ],
    'a whiteout of ..': [{ name: 'd/.wh...' }],
    'a whiteout of nothing': [{ name: 'd/.wh.' }],
    'a root that is a file': [{ name: './' }],
    'a name that is too long': [{ name: 'x'.repeat(256) }],
    'a path that is too long': [{ name: 'x/'.repeat(2040) }],
    'a device that cannot be': [{ name: 'c', type: '3', major: 5000, minor: 1 }],
    'an empty symbolic link': [{ name: 's', type: '2' }],
    'an owner that cannot be': [{ name: 'o', pax: { uid: '4294967295' } }],
    'an entry of an unknown kind': [{ name: 'k', type: '9' }],
  };
  it.each(Object.entries(hostile))('refuse %s', async (_, entries) => {
    await layers.staging.clear();
    const parent = await layers.build(rawTar(parentOfHostile));
    const before = staged();
    const building = layers.build(rawTar([{ name: 'fine', content: 'x' }, ...entries]), parent);
    await expect(building).rejects.toMatchObject({ code: 'TAR_INVALID' });
    expect(staged()).toEqual(before);
  });

  it('stop when they are cancelled', async () => {
    const abort = new AbortController();
    const own = new Staging(join(layers.mount.path, 'cancelled'), () => '', abort.signal);
    await own.clear();
    const endless = async function* () {
      yield { bytes: rawTar([{ name: 'a', content: 'x' }]).subarray(0, 1024) };
      const block = rawTar([{ name: 'b', content: Buffer.alloc(1 << 20) }]).subarray(0, -1024);
      for (let i = 0; ; i += 1) {
        if (i === 3) abort.abort();
        yield { bytes: block };
      }
    };
    const building = buildLayer({
      ...{ staging: own, diffId: sha256(''), parent: undefined, tar: endless() },
      onBytes: () => undefined,
    });
    await expect(building).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(readdirSync(own.folder)).toEqual([]);
  });

  it('say that the disk is full when it is', async () => {
    const small = mountBtrfs({ sizeMiB: 128 });
    try {
      const own = new Staging(join(small.path, 'staging'), () => '', undefined);
      await own.clear();
      const tar = rawTar([{ name: 'a', content: Buffer.alloc(160 << 20, 'noise') }]);
      const building = buildLayer({
        ...{ staging: own, diffId: sha256(tar), parent: undefined, tar: plainPieces(tar) },
        onBytes: () => undefined,
      });
      await expect(building).rejects.toMatchObject({ code: 'NO_SPACE' });
      expect(readdirSync(own.folder)).toEqual([]);
    } finally {
      small.unmount();
    }
  });
});
