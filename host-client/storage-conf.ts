import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Where Podman keeps its images, and what it needs only until the next boot. */
export type StorageRoots = { readonly graphRoot: string; readonly runRoot: string };

/**
 * What containers-storage.conf(5) says for root: the administrator's file, else the distribution's,
 * else Podman's own defaults. `root` stands for `/` of the machine.
 */
export async function findStorageRoots(root: string): Promise<StorageRoots> {
  for (const file of ['etc/containers/storage.conf', 'usr/share/containers/storage.conf']) {
    const text = await readFile(join(root, file), 'utf8').catch(() => undefined);
    if (text === undefined) continue;
    const settings = storageSection(text);
    return rootsFrom(root, settings.get('graphroot'), settings.get('runroot'));
  }
  return rootsFrom(root, undefined, undefined);
}

function rootsFrom(
  root: string,
  graphRoot = '/var/lib/containers/storage',
  runRoot = '/run/containers/storage',
): StorageRoots {
  if (root === '/') return { graphRoot, runRoot };
  // What lasts until the next boot does so on this machine, and Podman takes 50 characters at most.
  const name = createHash('sha256').update(root).digest('hex').slice(0, 12);
  return { graphRoot: join(root, graphRoot), runRoot: `/run/snaphost/${name}` };
}

/** The plain string settings of the table `[storage]`; TOML's other forms are not needed. */
function storageSection(text: string): Map<string, string> {
  const settings = new Map<string, string>();
  let table = '';
  for (const line of text.split('\n')) {
    const heading = /^\s*\[([^\]]+)\]/.exec(line)?.[1];
    if (heading !== undefined) table = heading.trim();
    const match = /^\s*([a-z_]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/.exec(line);
    const value = match?.[2] ?? match?.[3] ?? '';
    if (table === 'storage' && match?.[1] !== undefined && value !== '') {
      settings.set(match[1], value);
    }
  }
  return settings;
}
