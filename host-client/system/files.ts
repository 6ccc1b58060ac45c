import { createHash, type Hash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, readdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Makes what happened to the names in a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/**
 * Puts a file in its place whole or not at all, and durably: a temporary file beside it, synced and
 * renamed. Only the owner may read it unless `mode` says otherwise.
 */
export async function writeFileDurably(
  path: string,
  content: string | Uint8Array,
  mode = 0o600,
): Promise<void> {
  await replaceFile(path, content, mode, (file) => file.datasync());
  await syncFolder(dirname(path));
}

/**
 * Puts a file in its place whole or not at all for all that read it now. After a crash it may be the
 * one that was there before, or damaged.
 */
export function writeFileLightly(path: string, content: string, mode = 0o600): Promise<void> {
  return replaceFile(path, content, mode, async () => {});
}

async function replaceFile(
  path: string,
  content: string | Uint8Array,
  mode: number,
  settle: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const file = await open(temporary, 'wx', mode);
    try {
      await file.writeFile(content);
      await settle(file);
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/**
 * Removes what a {@link writeFileDurably} that was cut off has left in a folder: for the file `name`, or
 * for any. Nobody else may be writing there. Says whether there was anything.
 */
export async function removeHalfWritten(folder: string, name = ''): Promise<boolean> {
  const names = await readdir(folder).catch(() => []);
  const left = names.filter((one) => one.startsWith(name) && /\.[0-9a-f]{12}\.tmp$/.test(one));
  for (const one of left) await rm(join(folder, one), { force: true });
  return left.length > 0;
}

/** The sha256 of what was read of a file, which can go on, and how many bytes that is. */
export type HashedFile = { readonly hash: Hash; readonly size: number };

/** Reads a file for its sha256. */
export async function hashFile(path: string | Buffer): Promise<HashedFile> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of createReadStream(path)) {
    hash.update(chunk as Buffer);
    size += (chunk as Buffer).length;
  }
  return { hash, size };
}

/** The text of a file, or undefined when there is none. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
