import { readFile, realpath, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** The file system that a path is on. */
export type FreeSpace = {
  /** Tells file systems apart; the same for all subvolumes of one btrfs. */
  readonly fileSystem: string;
  /** Where it is mounted. */
  readonly mountPoint: string;
  /** Bytes that may still be written. */
  readonly free: number;
};

/** Free space where a path is or will be: of the nearest folder that exists. */
export async function freeSpaceAt(path: string): Promise<FreeSpace> {
  const real = await existingPath(path);
  const { bavail, bsize } = await statfs(real);
  const { device, mountPoint } = mountOf(real, await readFile('/proc/self/mountinfo', 'utf8'));
  return { fileSystem: device, mountPoint, free: bavail * bsize };
}

async function existingPath(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    try {
      return await realpath(at);
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException;
      if (at === '/' || (code !== 'ENOENT' && code !== 'ENOTDIR')) throw thrown;
    }
  }
}

/**
 * Finds the mount that a path is on in the text of `/proc/self/mountinfo` (proc(5)). The device is
 * that of the file system, unlike `st_dev`, which each btrfs subvolume has for itself.
 */
export function mountOf(path: string, mountinfo: string): { device: string; mountPoint: string } {
  let best = { device: 'unknown', mountPoint: '' };
  for (const line of mountinfo.split('\n')) {
    const [, , device, , escaped] = line.split(' ');
    if (device === undefined || escaped === undefined) continue;
    const mountPoint = escaped.replace(/\\([0-7]{3})/g, (_, octal: string) =>
      String.fromCharCode(Number.parseInt(octal, 8)),
    );
    const isAbove = path === mountPoint || path.startsWith(join(mountPoint, '/'));
    // Of several mounts at one place, the last one listed lies on top.
    if (isAbove && mountPoint.length >= best.mountPoint.length) best = { device, mountPoint };
  }
  return best;
}
