import { randomBytes } from 'node:crypto';
import { mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as v from 'valibot';
import { SnapgateError } from '../../shared/errors.ts';
import { RunningProgram, run } from '../system/run.ts';

/** A partition of a disk: where it begins and how long it is, in bytes. */
export type Partition = { readonly offset: number; readonly size: number };

/** The two partitions of a machine. */
export type DiskLayout = { readonly boot: Partition; readonly root: Partition };

const MIB = 1024 * 1024;
/** Least size of the rest of the disk, in bytes: two images and what changes between them. */
const LEAST_ROOT = 1024 * MIB;

/**
 * Writes a partition table (GPT): a boot partition of `bootBytes`, the rest for btrfs. All that was
 * on the disk is lost. Throws NO_SPACE when the disk is too small, COMMAND_FAILED.
 */
export async function partitionDisk(disk: string, bootBytes: number): Promise<DiskLayout> {
  const total = await sizeOf(disk);
  if (total < bootBytes + LEAST_ROOT + 2 * MIB) {
    throw new SnapgateError('NO_SPACE', `the disk has ${total} bytes`, {
      where: disk,
      hint: `At least ${bootBytes + LEAST_ROOT + 2 * MIB} are needed.`,
    });
  }
  const sfdisk = new RunningProgram('sfdisk', [
    '--quiet',
    '--wipe=always',
    '--wipe-partitions=always',
    disk,
  ]);
  const sizeMiB = Math.floor(bootBytes / MIB);
  await sfdisk.write(
    Buffer.from(`label: gpt\nsize=${sizeMiB}MiB, type=uefi, name=boot\ntype=linux, name=root\n`),
  );
  await sfdisk.end();
  return readLayout(disk);
}

const tableSchema = v.object({
  partitiontable: v.object({
    sectorsize: v.optional(v.number(), 512),
    partitions: v.array(v.object({ start: v.number(), size: v.number() })),
  }),
});

/** Reads the two partitions back. Throws BOOT_INVALID when the disk has another table. */
export async function readLayout(disk: string): Promise<DiskLayout> {
  const { stdout } = await run('sfdisk', ['--json', disk]);
  const { sectorsize, partitions } = v.parse(tableSchema, JSON.parse(stdout)).partitiontable;
  const [boot, root] = partitions.map(({ start, size }) => ({
    offset: start * sectorsize,
    size: size * sectorsize,
  }));
  if (boot !== undefined && root !== undefined) return { boot, root };
  throw new SnapgateError('BOOT_INVALID', 'the disk does not have two partitions', { where: disk });
}

async function sizeOf(disk: string): Promise<number> {
  const file = await open(disk, 'r');
  try {
    const found = await file.stat();
    if (found.isFile()) return found.size;
  } finally {
    await file.close();
  }
  return Number((await run('blockdev', ['--getsize64', disk])).stdout.trim());
}

/**
 * Makes the FAT file system of the boot partition and copies a folder into it, without mounting
 * anything: it works in a container and on a kernel that has no FAT. `serial` is `XXXX-XXXX`.
 */
export async function makeBootPartition(
  disk: string,
  { offset, size }: Partition,
  folder: string,
  serial: string,
): Promise<void> {
  const drive = `${disk}@@${offset}`;
  const hex = serial.replace('-', '');
  const sectors = String(size / 512);
  await run('mformat', ['-i', drive, '-F', '-T', sectors, '-N', hex, '-v', 'BOOT', '::']);
  const names = (await readdir(folder)).map((name) => join(folder, name));
  if (names.length > 0) await run('mcopy', ['-i', drive, '-s', '-Q', '-m', ...names, '::']);
}

/** A serial number for a FAT file system, as blkid(8) shows it: `XXXX-XXXX`. */
export function newSerial(): string {
  const hex = randomBytes(4).toString('hex').toUpperCase();
  return `${hex.slice(0, 4)}-${hex.slice(4)}`;
}

/** A mounted btrfs file system of a disk under installation. */
export type MountedRoot = AsyncDisposable & {
  /** Where its top level is mounted. */
  readonly path: string;
  readonly uuid: string;
};

/** Makes btrfs on the root partition and mounts its top level in a folder of its own. */
export async function makeRootPartition(disk: string, part: Partition): Promise<MountedRoot> {
  const loop = (
    await run('losetup', [
      ...['--find', '--show', '--offset', String(part.offset)],
      ...['--sizelimit', String(part.size), disk],
    ])
  ).stdout.trim();
  const path = await mkdtemp(join(tmpdir(), 'snaphost-install-'));
  let isMounted = false;
  const release = async () => {
    if (isMounted) await run('umount', [path]);
    await run('losetup', ['--detach', loop]);
    await rm(path, { recursive: true });
  };
  try {
    await run('mkfs.btrfs', ['--quiet', '--force', '--label', 'snapgate', loop]);
    await run('mount', ['-t', 'btrfs', loop, path]);
    isMounted = true;
    const uuid = (await run('blkid', ['-s', 'UUID', '-o', 'value', loop])).stdout.trim();
    return { path, uuid, [Symbol.asyncDispose]: release };
  } catch (thrown) {
    await release().catch(() => undefined);
    throw thrown;
  }
}
