import {
  chmod,
  chown,
  lstat,
  mkdir,
  readFile,
  rename,
  rm,
  rmdir,
  writeFile,
} from 'node:fs/promises';
import { mergeAccounts } from './accounts.ts';
import type { EtcTree } from './entry.ts';
import { type EtcAction, NEW_SUFFIX, planEtc } from './plan.ts';
import { placeIn, scanEtc } from './scan.ts';

/** The three trees of a merge, and where the result goes. */
export type EtcMerge = {
  /** /etc of the image that the machine runs, as that image ships it. */
  readonly base: string;
  /** /etc of the machine. */
  readonly machine: string;
  /** /etc of the new deployment: as the new image ships it before, merged after. */
  readonly target: string;
  /** Copies one entry with owner, mode, times and extended attributes; not what a folder holds. */
  readonly copy: (from: Buffer, to: Buffer) => Promise<void>;
};

/** What a merge did. Paths are relative to /etc. */
export type EtcReport = {
  readonly actions: readonly EtcAction[];
  /** What a person should look at, as sentences. */
  readonly notes: readonly string[];
};

/**
 * Merges the machine's configuration into a new deployment. The machine's own tree is only read; a
 * merge that breaks off leaves the target half done, to be thrown away with its deployment.
 */
export async function mergeEtc(merge: EtcMerge): Promise<EtcReport> {
  const machine = await scanEtc(merge.machine);
  const actions = planEtc(await scanEtc(merge.base), machine, await scanEtc(merge.target));
  const notes: string[] = [];
  for (const action of actions) notes.push(...(await apply(merge, machine, action)));
  return { actions, notes };
}

async function apply(merge: EtcMerge, machine: EtcTree, action: EtcAction): Promise<string[]> {
  const { path } = action;
  const at = placeIn(merge.target, path);
  switch (action.kind) {
    case 'remove':
      await remove(at);
      return [];
    case 'keep':
      return place(merge, machine, path);
    case 'conflict':
      await moveAside(at);
      await place(merge, machine, path);
      return [
        `${path}: changed here and in the image; the image's version is ${path}${NEW_SUFFIX}`,
      ];
    case 'merge-lines':
      return mergeLines(merge, path);
  }
}

/** A folder into which the image put something new stays. */
async function remove(at: Buffer): Promise<void> {
  const found = await lstat(at).catch(() => undefined);
  if (found === undefined) return;
  if (!found.isDirectory()) return rm(at);
  await rmdir(at).catch(ignoreFull);
}

function ignoreFull(thrown: NodeJS.ErrnoException): void {
  if (thrown.code !== 'ENOTEMPTY') throw thrown;
}

async function moveAside(at: Buffer): Promise<void> {
  const aside = Buffer.concat([at, Buffer.from(NEW_SUFFIX)]);
  await rm(aside, { recursive: true, force: true });
  await rename(at, aside);
}

async function place(merge: EtcMerge, machine: EtcTree, path: string): Promise<string[]> {
  const at = placeIn(merge.target, path);
  const entry = machine.get(path);
  if (entry === undefined) return [];
  const found = await lstat(at).catch(() => undefined);
  const notes: string[] = [];
  if (entry.type === 'directory') {
    if (found !== undefined && !found.isDirectory()) await rm(at);
    if (!found?.isDirectory()) await mkdir(at);
    await chown(at, entry.uid, entry.gid);
    await chmod(at, entry.mode);
    return notes;
  }
  if (found?.isDirectory()) {
    await rmdir(at).catch(async (thrown: NodeJS.ErrnoException) => {
      ignoreFull(thrown);
      await moveAside(at);
      notes.push(`${path}: is no folder here; the image's folder is ${path}${NEW_SUFFIX}`);
    });
  } else if (found !== undefined) {
    await rm(at);
  }
  await merge.copy(placeIn(merge.machine, path), at);
  return notes;
}

async function mergeLines(merge: EtcMerge, path: string): Promise<string[]> {
  const read = (root: string) => readFile(placeIn(root, path), 'latin1');
  const base = await read(merge.base).catch(() => '');
  const image = await read(merge.target);
  const { text, notes } = mergeAccounts(path, base, await read(merge.machine), image);
  await writeFile(placeIn(merge.target, path), text, 'latin1');
  return [...notes];
}
