import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  makeBootPartition,
  makeRootPartition,
  newSerial,
  partitionDisk,
  readLayout,
} from '../../host-client/install/disk.ts';
import { prepareRoot } from '../../host-client/root/prepare-root.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'disk-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function missing(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root';
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  const lacks = ['sfdisk', 'mformat', 'mkfs.btrfs', 'losetup'].find(
    (name) => spawnSync(name, ['--version'], { env }).error !== undefined,
  );
  return lacks === undefined ? undefined : `${lacks} is not installed`;
}

function newDisk(bytes = 1400 * 1024 * 1024): string {
  const disk = join(folder, 'disk.img');
  writeFileSync(disk, '');
  truncateSync(disk, bytes);
  return disk;
}

describe('a disk under installation', () => {
  it('gets a boot partition with files and a btrfs root', async (context) => {
    const why = missing();
    context.skip(why !== undefined, why);
    const disk = newDisk();
    const layout = await partitionDisk(disk, 64 * 1024 * 1024);
    expect(await readLayout(disk)).toEqual(layout);
    const files = join(folder, 'files');
    mkdirSync(join(files, 'loader/entries'), { recursive: true });
    writeFileSync(join(files, 'loader/entries/snapgate-a+3.conf'), 'title A\n');
    const serial = newSerial();
    await makeBootPartition(disk, layout.boot, files, serial);
    expect(serial).toMatch(/^[0-9A-F]{4}-[0-9A-F]{4}$/);
    const name = `${disk}@@${layout.boot.offset}`;
    const text = execFileSync('mtype', ['-i', name, '::loader/entries/snapgate-a+3.conf']);
    expect(text.toString()).toBe('title A\n');
    await using root = await makeRootPartition(disk, layout.root);
    expect(root.uuid).toMatch(/^[0-9a-f-]{36}$/);
    execFileSync('btrfs', ['subvolume', 'create', join(root.path, 'x')], { stdio: 'ignore' });
  });

  it('must be large enough', async (context) => {
    const why = missing();
    context.skip(why !== undefined, why);
    await expect(partitionDisk(newDisk(8 * 1024 * 1024), 1024 * 1024)).rejects.toMatchObject({
      code: 'NO_SPACE',
    });
  });

  it('takes a root whose /etc is a subvolume with the configuration merged in', async (context) => {
    const why = missing();
    context.skip(why !== undefined, why);
    const disk = newDisk();
    const { root: part } = await partitionDisk(disk, 64 * 1024 * 1024);
    await using mounted = await makeRootPartition(disk, part);
    const tree = (name: string, files: Readonly<Record<string, string>>) => {
      const path = join(mounted.path, name);
      execFileSync('btrfs', ['subvolume', 'create', path], { stdio: 'ignore' });
      mkdirSync(join(path, 'etc'));
      for (const [file, text] of Object.entries(files))
        writeFileSync(join(path, 'etc', file), text);
      return path;
    };
    const old = tree('old', { motd: 'old', own: '1' });
    const machine = tree('machine', {
      motd: 'old',
      own: 'changed',
      fstab: 'tmpfs /tmp tmpfs rw 0 0\n',
    });
    const root = tree('new', { motd: 'new', own: '1' });
    const options = {
      ...{ root, deployment: 'new' },
      devices: { rootUuid: 'r', bootUuid: 'b', writableRoot: false },
      previous: { image: old, etc: join(machine, 'etc') },
    };
    const report = await prepareRoot(options);
    expect(report.actions.map(({ kind, path }) => `${kind} ${path}`)).toEqual([
      'keep fstab',
      'keep own',
    ]);
    const read = (path: string) => execFileSync('cat', [join(root, path)]).toString();
    expect([read('etc/motd'), read('etc/own')]).toEqual(['new', 'changed']);
    expect(read('etc/fstab')).toMatch(/^tmpfs \/tmp tmpfs rw 0 0\n# snaphost:/);
    execFileSync('btrfs', ['subvolume', 'show', join(root, 'etc')], { stdio: 'ignore' });
    expect(execFileSync('ls', ['-A', root]).toString().split('\n')).toEqual(
      expect.arrayContaining(['deployments', 'efi', 'etc', 'var']),
    );
    await prepareRoot(options);
    expect(read('etc/own')).toBe('changed');
  });
});
