import { rename, stat, statfs } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import { withoutMounts } from '../system/bare-mount.ts';
import { readIfThere } from '../system/files.ts';
import { type RunOptions, run } from '../system/run.ts';

/** `f_type` of btrfs in statfs(2). */
const BTRFS_SUPER_MAGIC = 0x9123683e;
/** Inode number of the root of every subvolume. */
const SUBVOLUME_INODE = 256;

/** Whether a path is on a btrfs file system. */
export async function isBtrfs(path: string): Promise<boolean> {
  return (await statfs(path)).type === BTRFS_SUPER_MAGIC;
}

/** Throws NOT_BTRFS unless a path is on a btrfs file system. */
export async function assertBtrfs(path: string): Promise<void> {
  if (await isBtrfs(path)) return;
  throw new SnapgateError('NOT_BTRFS', 'this folder is not on a btrfs file system', {
    where: path,
    hint: 'Put the storage of Podman on btrfs and set driver = "btrfs" in storage.conf.',
  });
}

/** Whether a path is the root of a subvolume of btrfs. */
export async function isSubvolume(path: string): Promise<boolean> {
  const stats = await stat(path).catch(() => undefined);
  return stats?.ino === SUBVOLUME_INODE && stats.isDirectory() && (await isBtrfs(path));
}

/**
 * Makes `target` a snapshot of `source`: writable unless `readOnly`, and with no memory of how the
 * source was received. Throws COMMAND_FAILED.
 */
export async function snapshot(
  source: string,
  target: string,
  options: RunOptions & { readonly readOnly?: boolean } = {},
): Promise<void> {
  const flags = options.readOnly ? ['-r'] : [];
  await run('btrfs', ['subvolume', 'snapshot', ...flags, source, target], options);
}

/**
 * Moves a subvolume to another place below `root`. Where it cannot be moved, a snapshot of it is made
 * there, which costs more writes, most of them when the original is deleted. What it holds is on the
 * disk after the next {@link syncFileSystem} only. Throws COMMAND_FAILED.
 */
export async function moveSubvolume(root: string, source: string, target: string): Promise<void> {
  // Podman mounts a folder of its storage on itself, and nothing can be moved into a mount.
  const move = (bare: string) =>
    rename(join(bare, relative(root, source)), join(bare, relative(root, target))).then(() => true);
  const moved = await withoutMounts(root, move).catch(() => false);
  if (moved !== true) await snapshot(source, target);
}

/** Deletes subvolumes; their space becomes free some time later. Throws COMMAND_FAILED. */
export async function deleteSubvolumes(paths: readonly string[]): Promise<void> {
  if (paths.length > 0) await run('btrfs', ['subvolume', 'delete', ...paths]);
}

/** Waits until all that was written to a file system is on its disk. Throws COMMAND_FAILED. */
export async function syncFileSystem(path: string): Promise<void> {
  await run('btrfs', ['filesystem', 'sync', path]);
}

/** The UUID of a subvolume, as its 16 bytes. Throws COMMAND_FAILED, STORAGE_INVALID. */
export async function subvolumeUuid(path: string): Promise<Buffer> {
  const { stdout } = await run('btrfs', ['subvolume', 'show', path]);
  return parseUuid(field(stdout, 'UUID', path));
}

/** The id of a subvolume, as boot loaders and `set-default` take it. */
export async function subvolumeId(path: string): Promise<number> {
  const { stdout } = await run('btrfs', ['subvolume', 'show', path]);
  return Number(field(stdout, 'Subvolume ID', path));
}

function field(text: string, name: string, path: string): string {
  const found = new RegExp(`^\\s*${name}:\\s*(\\S+)$`, 'm').exec(text)?.[1];
  if (found !== undefined) return found;
  throw new SnapgateError('STORAGE_INVALID', `a subvolume has no ${name}`, { where: path });
}

/** The 16 bytes of a UUID in its usual notation. Throws STORAGE_INVALID. */
export function parseUuid(text: string): Buffer {
  if (/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) {
    return Buffer.from(text.replaceAll('-', ''), 'hex');
  }
  throw new SnapgateError('STORAGE_INVALID', `not a UUID: ${text.slice(0, 50)}`);
}

/** Whether a subvolume cannot be written to. Throws COMMAND_FAILED. */
export async function isReadOnlySubvolume(path: string): Promise<boolean> {
  const { stdout } = await run('btrfs', ['property', 'get', '-t', 'subvol', path, 'ro']);
  return stdout.trim() === 'ro=true';
}

/** Lets a subvolume be written to or not. Throws COMMAND_FAILED. */
export async function setReadOnlySubvolume(path: string, readOnly: boolean): Promise<void> {
  await run('btrfs', ['property', 'set', '-t', 'subvol', path, 'ro', String(readOnly)]);
}

/** Makes a subvolume the one that is mounted by default. Throws COMMAND_FAILED. */
export async function setDefaultSubvolume(path: string): Promise<void> {
  await run('btrfs', ['subvolume', 'set-default', path]);
}

/** The id of the subvolume that is mounted by default; 5 is the top of the file system. */
export async function defaultSubvolumeId(path: string): Promise<number> {
  const { stdout } = await run('btrfs', ['subvolume', 'get-default', path]);
  const id = /^ID (\d+)\b/.exec(stdout)?.[1];
  if (id !== undefined) return Number(id);
  throw new SnapgateError('STORAGE_INVALID', 'the default subvolume is unknown', { where: path });
}

/**
 * Whether this machine takes compressed content in send streams and keeps it as it is: Linux 6.0 and
 * btrfs-progs 5.18 or newer. Throws COMMAND_FAILED.
 */
export async function receivesPacked(options: RunOptions = {}): Promise<boolean> {
  const version = await readIfThere('/sys/fs/btrfs/features/send_stream_version');
  if (Number(version ?? 0) < 2) return false;
  const { stdout } = await run('btrfs', ['receive', '--help'], options);
  return stdout.includes('--force-decompress');
}
