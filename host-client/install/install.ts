import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import type { Config } from '../config.ts';
import {
  BOOT_PLACE,
  DEPLOYMENTS_PLACE,
  DEPLOYMENTS_SUBVOLUME,
  VAR_SUBVOLUME,
} from '../root/machine-layout.ts';
import { run } from '../system/run.ts';
import type { UpdateReport } from '../update/report.ts';
import { addBootLoader } from './boot-loader-files.ts';
import { makeBootPartition, makeRootPartition, newSerial, partitionDisk } from './disk.ts';

type MachineConfig = NonNullable<Config['machine']>;

/** What is to be installed, and onto what. */
export type InstallOptions = {
  /** A block device, or a file that holds a disk image. All that is on it is lost. */
  readonly disk: string;
  /** Size of the boot partition in bytes. */
  readonly bootBytes: number;
  /** Whether each start of the disk is to make its own machine-id: for an image that is flashed. */
  readonly isGeneric: boolean;
  readonly tries: number;
  readonly kernelOptions: readonly string[];
  /** Whether `/` can be written to; `/etc` and `/var` always can. */
  readonly writableRoot: boolean;
  readonly bootLoader: MachineConfig['bootLoader'];
  /** What the installed machine's own configuration says beside what follows from the disk. */
  readonly settings: Pick<Config, 'repository' | 'tag' | 'name' | 'policy'> & {
    readonly gateways: readonly URL[];
  };
  /** Runs an update on the folders of the new disk. */
  readonly update: (target: InstallTarget) => Promise<UpdateReport>;
};

/** The folders that stand for a machine while its disk is being filled. */
export type InstallTarget = Pick<
  Config,
  'root' | 'graphRoot' | 'runRoot' | 'stateDir' | 'deploymentsDir'
> & { readonly machine: MachineConfig };

/** What `install --json` prints. */
export type InstallReport = UpdateReport & { readonly disk: string; readonly rootUuid: string };

/**
 * Installs a machine: partitions, btrfs, the image as first deployment, its boot entry and the boot
 * loader. The image is verified like any update. What fails leaves a disk that does not boot; run it
 * again. Throws NO_SPACE, BOOT_INVALID and what an update throws.
 */
export async function install(options: InstallOptions): Promise<InstallReport> {
  const { disk, bootBytes } = options;
  const work = await mkdtemp(join(tmpdir(), 'snaphost-install-'));
  try {
    const layout = await partitionDisk(disk, bootBytes);
    const bootUuid = newSerial();
    let report: InstallReport;
    {
      await using root = await makeRootPartition(disk, layout.root);
      const target = await makeTarget(options, work, root.path, { rootUuid: root.uuid, bootUuid });
      const updated = await options.update(target);
      if (updated.deployment === null) {
        throw new SnapgateError('INTERNAL', 'the image was not deployed', { where: disk });
      }
      const deployment = join(target.deploymentsDir, updated.deployment);
      await writeSettings(options, target, deployment);
      await seedVar(deployment, join(root.path, VAR_SUBVOLUME));
      await forgetPaths(target.graphRoot);
      await addBootLoader(options.bootLoader, deployment, join(work, 'efi'));
      await run('btrfs', ['filesystem', 'sync', root.path]);
      report = { ...updated, disk, rootUuid: root.uuid };
    }
    await makeBootPartition(disk, layout.boot, join(work, 'efi'), bootUuid);
    await syncDisk(disk);
    return report;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function makeTarget(
  { tries, kernelOptions, writableRoot, bootLoader }: InstallOptions,
  work: string,
  top: string,
  devices: { rootUuid: string; bootUuid: string },
): Promise<InstallTarget> {
  for (const name of [DEPLOYMENTS_SUBVOLUME, VAR_SUBVOLUME]) {
    await run('btrfs', ['subvolume', 'create', join(top, name)]);
  }
  const target = {
    root: work,
    graphRoot: join(top, VAR_SUBVOLUME, 'lib/containers/storage'),
    runRoot: join(work, 'run'),
    stateDir: join(top, VAR_SUBVOLUME, 'lib/snaphost'),
    deploymentsDir: join(top, DEPLOYMENTS_SUBVOLUME),
    machine: {
      ...{ ...devices, tries, kernelOptions: [...kernelOptions] },
      ...{ bootFolder: BOOT_PLACE, writableRoot, bootLoader },
    },
  };
  for (const folder of [target.graphRoot, target.runRoot, target.stateDir, join(work, 'efi')]) {
    await mkdir(folder, { recursive: true });
  }
  return target;
}

/** What makes the disk this machine: its configuration, its policy, Podman's driver, its id. */
async function writeSettings(
  { settings, isGeneric }: InstallOptions,
  { machine }: InstallTarget,
  deployment: string,
): Promise<void> {
  const etc = join(deployment, 'etc');
  const { gateways, repository, tag, name, policy } = settings;
  const config = {
    ...{ gateways: gateways.map((url) => url.origin), repository, tag, name },
    ...{ deploymentsDir: DEPLOYMENTS_PLACE, machine },
  };
  await mkdir(join(etc, 'snaphost'), { recursive: true });
  await writeFile(join(etc, 'snaphost/config.json'), `${JSON.stringify(config, undefined, 2)}\n`);
  await copyFile(policy, join(etc, 'snaphost/policy.json'));
  const storage = join(etc, 'containers/storage.conf');
  const text = await readFile(storage, 'utf8').catch(() => '');
  if (!/^\s*driver\s*=\s*"btrfs"/m.test(text)) {
    await mkdir(dirname(storage), { recursive: true });
    await writeFile(
      storage,
      '[storage]\ndriver = "btrfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n',
    );
  }
  const id = isGeneric ? '' : `${randomBytes(16).toString('hex')}\n`;
  await writeFile(join(etc, 'machine-id'), id);
}

/** /var is shared by all deployments; at first it is what the image ships. */
async function seedVar(deployment: string, target: string): Promise<void> {
  await run('cp', ['-a', '--reflink=auto', join(deployment, 'var/.'), target]);
}

/** Podman's own database names the folder that storage stood in meanwhile; it makes a new one. */
async function forgetPaths(graphRoot: string): Promise<void> {
  for (const name of ['libpod', 'db.sql']) {
    await rm(join(graphRoot, name), { recursive: true, force: true });
  }
}

async function syncDisk(disk: string): Promise<void> {
  const handle = await open(disk, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
