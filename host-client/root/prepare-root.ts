import { lstat, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import { type EtcReport, mergeEtc } from '../etc/merge.ts';
import { run } from '../system/run.ts';
import { withMounts } from './fstab.ts';
import {
  BOOT_PLACE,
  DEPLOYMENTS_PLACE,
  type MachineDevices,
  machineMounts,
} from './machine-layout.ts';

/** A deployment on its way: a writable snapshot of an image's top layer. */
export type RootToPrepare = {
  /** The snapshot's path now. */
  readonly root: string;
  readonly deployment: string;
  readonly devices: MachineDevices;
  /** Root of the image that runs now as it was shipped, and the running `/etc`; absent at first. */
  readonly previous?: { readonly image: string; readonly etc: string } | undefined;
};

/**
 * Makes a snapshot ready to be booted: `/etc` becomes a subvolume of its own, so that it can be
 * written to while `/` cannot, and takes over the machine's configuration; mount points are made and
 * fstab names what this deployment mounts. Running it again on a half-prepared root is harmless.
 */
export async function prepareRoot(options: RootToPrepare): Promise<EtcReport> {
  const { root, previous } = options;
  await separateEtc(root);
  const etc = join(root, 'etc');
  const report =
    previous === undefined
      ? { actions: [], notes: [] }
      : await mergeEtc({
          ...{ base: join(previous.image, 'etc'), machine: previous.etc, target: etc },
          copy: copyEntry,
        });
  for (const place of [DEPLOYMENTS_PLACE, BOOT_PLACE, '/var']) await makeMountPoint(root, place);
  const fstab = join(etc, 'fstab');
  const text = await readFile(fstab, 'latin1').catch(() => '');
  const mounts = machineMounts(options.devices, options.deployment);
  await rm(fstab, { force: true });
  await writeFile(fstab, withMounts(text, mounts), { encoding: 'latin1', mode: 0o644 });
  return report;
}

/** `/etc` as a subvolume: built beside, then renamed into place. */
async function separateEtc(root: string): Promise<void> {
  const etc = join(root, 'etc');
  const [fresh, old] = [join(root, '.etc-new'), join(root, '.etc-old')];
  const isThere = async (path: string) => (await lstat(path).catch(() => undefined)) !== undefined;
  if (await isThere(fresh)) await run('btrfs', ['subvolume', 'delete', fresh]);
  if (!(await isThere(etc)) && (await isThere(old))) await rename(old, etc);
  // The root of a subvolume has this inode number.
  if ((await lstat(etc)).ino !== 256) {
    await run('btrfs', ['subvolume', 'create', fresh]);
    await run('cp', ['-a', '--reflink=auto', '--no-target-directory', etc, fresh]);
    await rename(etc, old);
    await rename(fresh, etc);
  }
  await rm(old, { recursive: true, force: true });
}

/** Copies one entry with all that belongs to it. */
export async function copyEntry(from: Buffer, to: Buffer): Promise<void> {
  // A path that is no valid UTF-8 cannot be an argument of a program started by Node.js.
  const paths = [from, to].map((path) => path.toString('utf8'));
  if (paths.some((path, i) => !Buffer.from(path).equals(i === 0 ? from : to))) {
    throw new SnapgateError('STORAGE_INVALID', 'a name in /etc is no valid UTF-8', {
      where: paths[0] ?? '',
      hint: 'Rename it, then run the same command again.',
    });
  }
  await run('cp', ['-a', '--reflink=auto', '--no-target-directory', '--', ...paths]);
}

async function makeMountPoint(root: string, place: string): Promise<void> {
  const path = join(root, place);
  const found = await lstat(path).catch(() => undefined);
  if (found?.isDirectory()) return;
  if (found !== undefined) {
    throw new SnapgateError('BOOT_INVALID', `${place} of the image is no folder`, { where: root });
  }
  await mkdir(path, { mode: 0o755 });
}
