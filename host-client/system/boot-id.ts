import { readFile } from 'node:fs/promises';

/** The kernel's id of this boot; empty where there is none. */
export async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8').catch(() => '')).trim();
}
