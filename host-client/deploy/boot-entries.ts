import { join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import type { BootLoader } from '../boot/boot-loader.ts';
import { findKernel } from '../boot/kernel.ts';
import { type MachineDevices, machineOptions } from '../root/machine-layout.ts';
import { isSubvolume, subvolumeId } from '../storage/btrfs.ts';
import type { BootSwitch, Deployment } from './deployment.ts';

/** What boot entries need to know of the machine. */
export type BootEntriesOptions = {
  readonly loader: BootLoader;
  /** The folder of deployments. */
  readonly folder: string;
  readonly devices: MachineDevices;
  /** How often a deployment that is not proved yet is tried. */
  readonly tries: number;
  /** The owner's own part of the kernel command line. */
  readonly kernelOptions: readonly string[];
};

/**
 * Boots what has the first entry of the boot loader. A deployment that is not proved gets an entry
 * that counts its tries; one that is good gets, or keeps, one that does not.
 */
export function bootEntriesSwitch(options: BootEntriesOptions): BootSwitch {
  const { loader, folder, devices, tries, kernelOptions } = options;
  return {
    name: loader.name,
    countsTries: true,
    async next() {
      for (const { id, tries: left } of await loader.list()) {
        const path = join(folder, id);
        if (left?.left !== 0 && (await isSubvolume(path))) return subvolumeId(path);
      }
      // No entry: nothing of ours boots, and no subvolume has this id.
      return 0;
    },
    async choose(deployment) {
      const { id, state } = deployment;
      const isKnown = (await loader.list()).some((entry) => entry.id === id);
      if (state === 'good' && isKnown) return loader.choose(id);
      await loader.add(
        {
          ...{ id, title: title(deployment), kernel: await findKernel(deployment.path) },
          options: machineOptions(devices, id, kernelOptions),
        },
        tries,
      );
    },
    async bless(id) {
      if ((await loader.list()).some((entry) => entry.id === id)) await loader.bless(id);
    },
    async failed() {
      return (await loader.list())
        .filter(({ tries: left }) => left?.left === 0)
        .map(({ id }) => id);
    },
    async forget(id) {
      await loader.remove([id]);
    },
    async chooseSubvolume() {
      throw new SnapgateError('NOTHING_TO_DO', 'no other deployment has a boot entry', {
        hint: 'snaphost list shows what there is.',
      });
    },
  };
}

function title({ image, id, created }: Deployment): string {
  return `${image} ${created.slice(0, 10)} (${id})`;
}
