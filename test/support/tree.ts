import { createHash } from 'node:crypto';
import { type BigIntStats, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import koffi from 'koffi';

const libc = koffi.load(null);
const listxattr = libc.func('int64 llistxattr(void *path, void *list, uint64 size)');
const getxattr = libc.func('int64 lgetxattr(void *path, void *name, void *value, uint64 size)');

function xattrs(path: Buffer): string {
  const place = Buffer.concat([path, Buffer.alloc(1)]);
  const names = Buffer.alloc(64 * 1024);
  const size = Number(listxattr(place, names, names.length));
  if (size < 0) return '';
  const found = names.toString('latin1', 0, size).split('\0').filter(Boolean).sort();
  const value = Buffer.alloc(64 * 1024);
  return found
    .map((name) => {
      const length = Number(
        getxattr(place, Buffer.from(`${name}\0`, 'latin1'), value, value.length),
      );
      return ` ${name}=${value.toString('hex', 0, Math.max(0, length))}`;
    })
    .join('');
}

function content(path: Buffer, stats: BigIntStats): string {
  if (stats.isSymbolicLink()) return `-> ${readlinkSync(path, 'latin1')}`;
  if (stats.isFile()) {
    const hash = createHash('sha256').update(readFileSync(path)).digest('hex');
    return `${stats.size} ${hash.slice(0, 16)}`;
  }
  return stats.isDirectory() ? '' : `device ${stats.rdev}`;
}

/**
 * Everything that can be told of a folder's tree, one line each: path, mode, owner, time, content,
 * attributes, and which paths are one file. Times at or after `now` (milliseconds) are all the same.
 */
export function describeTree(root: string, now = Number.POSITIVE_INFINITY): string[] {
  const lines: string[] = [];
  const links = new Map<bigint, string>();
  const visit = (path: string) => {
    const place = Buffer.from(path === '' ? root : `${root}/${path}`, 'latin1');
    const stats = lstatSync(place, { bigint: true });
    const first = links.get(stats.ino) ?? path;
    links.set(stats.ino, first);
    const mtime = Number(stats.mtimeMs) < now ? stats.mtimeNs : 'now';
    const mode = Number(stats.mode).toString(8);
    const what = `${content(place, stats)}${xattrs(place)}`;
    lines.push(`${path} ${mode} ${stats.uid}:${stats.gid} ${mtime} ${what} =${first}`);
    if (!stats.isDirectory()) return;
    for (const name of readdirSync(place, 'latin1').sort()) {
      visit(path === '' ? name : `${path}/${name}`);
    }
  };
  // latin1 keeps every byte of a name; the root itself is plain text.
  visit('');
  return lines;
}
