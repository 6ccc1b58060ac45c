import { lstat, readdir, readlink } from 'node:fs/promises';
import { SnapgateError } from '../../shared/errors.ts';
import { hashFile } from '../system/files.ts';
import type { EtcEntry, EtcTree } from './entry.ts';

/** Most entries a configuration tree may have: an image that ships more has something else there. */
const MAX_ENTRIES = 200_000;

/** The place in the file system of a path of a tree, byte for byte. */
export function placeIn(root: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]);
}

/**
 * Reads a configuration tree; a folder that does not exist is an empty one. Symbolic links are not
 * followed. Throws LIMIT_EXCEEDED, and what the file system throws.
 */
export async function scanEtc(root: string): Promise<EtcTree> {
  const tree = new Map<string, EtcEntry>();
  const folders = [''];
  for (let folder = folders.pop(); folder !== undefined; folder = folders.pop()) {
    for (const name of await list(root, folder)) {
      const path = folder === '' ? name : `${folder}/${name}`;
      const entry = await readEntry(placeIn(root, path));
      tree.set(path, entry);
      if (entry.type === 'directory') folders.push(path);
      if (tree.size > MAX_ENTRIES) {
        throw new SnapgateError('LIMIT_EXCEEDED', `more than ${MAX_ENTRIES} entries`, {
          where: root,
        });
      }
    }
  }
  return tree;
}

async function list(root: string, folder: string): Promise<string[]> {
  try {
    const names = await readdir(placeIn(root, folder), { encoding: 'buffer' });
    return names.map((name) => name.toString('latin1'));
  } catch (thrown) {
    if (folder === '' && (thrown as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw thrown;
  }
}

/** Reads one entry. Throws what lstat throws. */
export async function readEntry(at: Buffer): Promise<EtcEntry> {
  const found = await lstat(at);
  const { uid, gid } = found;
  const mode = found.mode & 0o7777;
  if (found.isSymbolicLink()) {
    return { type: 'symlink', mode: 0, uid, gid, content: await readlink(at, 'latin1') };
  }
  if (found.isDirectory()) return { type: 'directory', mode, uid, gid, content: '' };
  if (found.isFile()) {
    const content = (await hashFile(at)).hash.digest('hex');
    return { type: 'file', mode, uid, gid, content };
  }
  return { type: 'other', mode, uid, gid, content: `${found.mode}:${found.rdev}` };
}
