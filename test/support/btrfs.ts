import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A btrfs file system of its own, for one test file. */
export type BtrfsMount = {
  /** Where it is mounted. */
  readonly path: string;
  /** The file that stands for its disk. */
  readonly image: string;
  /** Unmounts it, with all that is mounted below, and removes every trace. May be called twice. */
  unmount(): void;
};

const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

function run(program: string, ...args: string[]): void {
  execFileSync(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Why this machine cannot mount a btrfs file system of its own, or undefined when it can. */
export function btrfsSkipReason(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root to mount a btrfs file system';
  if (!existsSync('/dev/loop-control')) return 'needs loop devices';
  for (const program of ['mkfs.btrfs', 'btrfs', 'mount']) {
    const found = ['/usr/sbin', '/sbin', '/usr/bin', '/bin'].some((dir) =>
      existsSync(join(dir, program)),
    );
    if (!found) return `needs ${program}`;
  }
  return undefined;
}

/** Makes a btrfs file system in a sparse file and mounts it in a folder of its own, by these options. */
export function mountBtrfs({
  sizeMiB = 1024,
  options = [],
}: {
  sizeMiB?: number;
  options?: readonly string[];
} = {}): BtrfsMount {
  const base = mkdtempSync(join(tmpdir(), 'snapgate-btrfs-'));
  const image = join(base, 'disk');
  const path = join(base, 'mnt');
  try {
    writeFileSync(image, '');
    truncateSync(image, sizeMiB * 1024 * 1024);
    run('mkfs.btrfs', '--quiet', image);
    run('mkdir', path);
    run('mount', '-o', ['loop', ...options].join(','), image, path);
  } catch (error) {
    rmSync(base, { recursive: true, force: true });
    throw error;
  }
  let mounted = true;
  const unmount = () => {
    if (!mounted) return;
    // Podman leaves its storage bind-mounted on itself.
    run('umount', '--recursive', path);
    mounted = false;
    rmSync(base, { recursive: true, force: true });
  };
  return { path, image, unmount };
}
