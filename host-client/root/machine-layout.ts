import type { Mount } from './fstab.ts';

/**
 * How a machine that snaphost installed is laid out on its one btrfs file system:
 *
 * - `@deployments/ID`: the root of a deployment, with its `/etc` as a subvolume of its own inside;
 * - `@var`: `/var` of all deployments, with Podman's storage and the client's state in it.
 */
export const DEPLOYMENTS_SUBVOLUME = '@deployments';
export const VAR_SUBVOLUME = '@var';
/** Where the deployments and the boot partition are mounted while the machine runs. */
export const DEPLOYMENTS_PLACE = '/deployments';
export const BOOT_PLACE = '/efi';

/** Which devices a machine boots from, by the ids of their file systems. */
export type MachineDevices = {
  /** UUID of the btrfs file system. */
  readonly rootUuid: string;
  /** Serial number of the FAT boot partition, `XXXX-XXXX`. */
  readonly bootUuid: string;
  /** Whether `/` can be written to; `/etc` and `/var` always can. */
  readonly writableRoot: boolean;
};

/** The file systems that a deployment mounts. */
export function machineMounts(devices: MachineDevices, deployment: string): Mount[] {
  const device = `UUID=${devices.rootUuid}`;
  const root = `/${DEPLOYMENTS_SUBVOLUME}/${deployment}`;
  const subvolume = (at: string, path: string, mode: string): Mount => ({
    ...{ device, at, type: 'btrfs' },
    options: `subvol=${path},${mode}`,
  });
  return [
    subvolume('/', root, devices.writableRoot ? 'rw' : 'ro'),
    subvolume('/etc', `${root}/etc`, 'rw'),
    subvolume('/var', `/${VAR_SUBVOLUME}`, 'rw'),
    subvolume(DEPLOYMENTS_PLACE, `/${DEPLOYMENTS_SUBVOLUME}`, 'rw'),
    {
      ...{ device: `UUID=${devices.bootUuid}`, at: BOOT_PLACE, type: 'vfat' },
      options: 'umask=0077,nofail',
    },
  ];
}

/** The kernel command line that boots a deployment; `extra` is the owner's own. */
export function machineOptions(
  devices: MachineDevices,
  deployment: string,
  extra: readonly string[],
): string {
  return [
    `root=UUID=${devices.rootUuid}`,
    `rootflags=subvol=${DEPLOYMENTS_SUBVOLUME}/${deployment}`,
    devices.writableRoot ? 'rw' : 'ro',
    `snaphost.deployment=${deployment}`,
    // What cannot go on starts again, so that the tries of a version run out.
    'panic=10',
    ...extra,
  ].join(' ');
}

/** The deployment that a kernel command line (`/proc/cmdline`) boots; undefined on another machine. */
export function bootedDeployment(commandLine: string): string | undefined {
  return /(?:^|\s)snaphost\.deployment=([a-z0-9-]+)(?:\s|$)/.exec(commandLine)?.[1];
}
