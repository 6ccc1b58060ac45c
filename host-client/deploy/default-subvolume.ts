import { defaultSubvolumeId, setDefaultSubvolume, syncFileSystem } from '../storage/btrfs.ts';
import { run } from '../system/run.ts';
import type { BootSwitch } from './deployment.ts';

/**
 * Boots what `btrfs subvolume set-default` chose: for boot loaders that mount the file system without
 * naming a subvolume, as openSUSE's GRUB does with `btrfs_relative_path`. GRUB cannot write to btrfs, so
 * nothing comes back from a version that does not get as far as its health checks: machines that nobody
 * watches boot by entries instead. `folder` is any folder of the file system.
 */
export function defaultSubvolumeSwitch(folder: string): BootSwitch {
  return {
    name: 'default subvolume',
    countsTries: false,
    next: () => defaultSubvolumeId(folder),
    async choose(deployment) {
      await setDefaultSubvolume(deployment.path);
      await syncFileSystem(folder);
    },
    async chooseSubvolume(id) {
      await run('btrfs', ['subvolume', 'set-default', String(id), folder]);
      await syncFileSystem(folder);
    },
    // There is no boot loader that counts, and nothing is kept outside of the subvolume.
    bless: async () => {},
    failed: async () => [],
    forget: async () => {},
  };
}
