import { describe, expect, it } from 'vitest';
import { freeSpaceAt, mountOf } from '../../../host-client/system/free-space.ts';
import { checkRoom, needsOf } from '../../../host-client/update/room.ts';
import type { Way } from '../../../host-client/update/ways.ts';
import { sha256 } from '../../../shared/digest.ts';
import { OCI_LAYER_GZIP, OCI_LAYER_TAR, TAR_DIFF } from '../../../shared/oci/media-types.ts';

const MB = 1_000_000;
const PLACES = { downloads: '/state/downloads', work: '/pods/work', graphRoot: '/pods' };
const blob = (name: string, mediaType: string, size: number) => ({
  ...{ mediaType, digest: sha256(name), size },
});

/** File systems by the first part of a path. */
const freeAt = (free: Readonly<Record<string, number>>) => async (path: string) => {
  const name = path.split('/')[1] ?? '';
  return { fileSystem: name, mountPoint: `/${name}`, free: free[name] ?? 0 };
};

function wayOf(layers: Way['layers'], more: Partial<Way> = {}): Way {
  return { method: 'full', layers, fetch: [], bytes: 0, ...more };
}

describe('the room that an update needs', () => {
  it('comes from the signed bounds of a delta', () => {
    const layer = blob('layer', OCI_LAYER_GZIP, 50 * MB);
    const fetch = blob('delta', TAR_DIFF, 5 * MB);
    const bounds = {
      ...{ wireBytes: 5 * MB, temporaryBytes: 7 * MB, installedBytes: 90 * MB, windowBytes: 1 },
    };
    const way = wayOf([{ kind: 'delta', diffId: sha256('a'), blob: layer, fetch }], { bounds });
    expect(needsOf(way, 3 * MB, PLACES).map((need) => need.bytes)).toEqual([
      3 * MB,
      7 * MB,
      90 * MB,
    ]);
  });

  it('is guessed for packed layers and known for plain ones', () => {
    const packed = blob('packed', OCI_LAYER_GZIP, 10 * MB);
    const plain = blob('plain', OCI_LAYER_TAR, 10 * MB);
    const way = wayOf([
      { kind: 'full', diffId: sha256('a'), blob: packed, fetch: packed },
      { kind: 'full', diffId: sha256('b'), blob: plain, fetch: plain },
      { kind: 'reused', diffId: sha256('c'), blob: plain },
    ]);
    expect(needsOf(way, 20 * MB, PLACES).at(-1)?.bytes).toBe(30 * MB);
  });

  it('is added up for each file system', async () => {
    const needs = [
      { path: '/pods/a', bytes: 100 * MB, what: 'one' },
      { path: '/pods/b', bytes: 100 * MB, what: 'another' },
      { path: '/state', bytes: 10 * MB, what: 'a third' },
    ];
    await checkRoom(needs, freeAt({ pods: 240 * MB, state: 50 * MB }));
    await expect(
      checkRoom(needs, freeAt({ pods: 230 * MB, state: 50 * MB })),
    ).rejects.toMatchObject({
      code: 'NO_SPACE',
      where: '/pods',
      message: '234 MB are needed (100 MB for one, 100 MB for another), 230 MB are free',
    });
  });
});

describe('free space', () => {
  const MOUNTS = [
    '1 0 8:1 / / rw - ext4 /dev/sda1 rw',
    '2 1 0:40 /sub /data rw - btrfs /dev/sdb rw',
    '3 1 0:40 /other /data/with\\040space rw - btrfs /dev/sdb rw',
    '4 1 0:41 / /database rw - tmpfs none rw',
  ].join('\n');

  it.for([
    ['/etc', '8:1', '/'],
    ['/data', '0:40', '/data'],
    ['/data/x/y', '0:40', '/data'],
    ['/data/with space/x', '0:40', '/data/with space'],
    ['/database', '0:41', '/database'],
    ['/datab', '8:1', '/'],
  ] as const)('of %s is that of its file system', ([path, device, mountPoint]) => {
    expect(mountOf(path, MOUNTS)).toEqual({ device, mountPoint });
  });

  it('of a folder that is not there is that of the one it will be in', async () => {
    expect(await freeSpaceAt('/tmp/no/such/folder')).toMatchObject({
      fileSystem: (await freeSpaceAt('/tmp')).fileSystem,
    });
  });
});
