import {
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readlinkSync,
  readSync,
} from 'node:fs';
import type { SourceFile, SourceTree } from '../../shared/delta/piece.ts';
import { SnapgateError } from '../../shared/errors.ts';

/** Most symbolic links followed for one path, as in Linux. */
const MAX_LINKS = 40;
/** Most files kept open at once; an older one is opened again when it is read again. */
const MAX_OPEN = 64;
/** About how many folders are remembered as being no symbolic links. */
const MAX_FOLDERS = 10_000;

/**
 * An extracted image root as the source of a delta. Symbolic links are followed as if `root` were
 * `/`, so no path leads out of it, and only regular files are opened. Nothing else may change the
 * folder meanwhile; the rebuilt layers' digests would show it if something did. Paths carry one byte
 * a character (Latin-1), as they come out of a delta: file names need not be UTF-8.
 */
export function openSourceFolder(root: string): SourceTree {
  const open = new Map<string, OpenFile>();
  const folders = new Set<string>();
  const opened = (real: string): OpenFile => {
    const known = open.get(real);
    if (known !== undefined) open.delete(real);
    const file = known ?? openFile(root, real);
    open.set(real, file);
    const [oldest] = open;
    if (open.size > MAX_OPEN && oldest !== undefined) {
      open.delete(oldest[0]);
      closeSync(oldest[1].fd);
    }
    return file;
  };
  return {
    open(path: string): SourceFile {
      if (folders.size > MAX_FOLDERS) folders.clear();
      const direct = isDirect(path, folders) ? attempt(() => opened(path)) : undefined;
      const real = direct === undefined ? resolveInside(root, path, folders) : path;
      const { size } = direct ?? opened(real);
      return {
        ...{ path, size },
        read: (target, offset) => readSync(opened(real).fd, target, 0, target.length, offset),
      };
    },
    close() {
      for (const { fd } of open.values()) closeSync(fd);
      open.clear();
    },
  };
}

/** Whether a path leads through known folders alone, to something that may be a link. */
function isDirect(path: string, folders: Set<string>): boolean {
  const slash = path.lastIndexOf('/');
  const name = path.slice(slash + 1);
  return folders.has(path.slice(0, slash)) && name !== '' && name !== '.' && name !== '..';
}

/** Undefined for what must be looked at: a link, or nothing. */
function attempt<T>(open: () => T): T | undefined {
  try {
    return open();
  } catch {
    return undefined;
  }
}

type OpenFile = { readonly fd: number; readonly size: number };

function mismatch(path: string, why: string, cause?: unknown): SnapgateError {
  return new SnapgateError('DELTA_SOURCE_MISMATCH', `the delta needs ${path}, ${why}`, {
    hint: 'Give the unpacked root of the very image that the delta was made from.',
    cause,
  });
}

/**
 * The path without symbolic links of what `path` leads to inside `root`. `folders` remembers what is
 * on the way to files and is no link.
 */
function resolveInside(root: string, path: string, folders: Set<string>): string {
  const pending = path.split('/').reverse();
  const done: string[] = [];
  let links = 0;
  while (pending.length > 0) {
    const part = pending.pop();
    if (part === undefined || part === '' || part === '.') continue;
    if (part === '..') {
      done.pop();
      continue;
    }
    if (part.includes('\0')) throw mismatch(JSON.stringify(path), 'which is no path');
    const place = [...done, part].join('/');
    const link = folders.has(place) ? undefined : readLink(inside(root, place), path);
    if (link === undefined) {
      if (pending.length > 0) folders.add(place);
      done.push(part);
      continue;
    }
    links += 1;
    if (links > MAX_LINKS) throw mismatch(path, 'which leads through too many symbolic links');
    if (link.startsWith('/')) done.length = 0;
    pending.push(...link.split('/').reverse());
  }
  return done.join('/');
}

/** The place in the file system of a path inside `root`, byte for byte. */
function inside(root: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${root}/`), Buffer.from(path, 'latin1')]);
}

function readLink(at: Buffer, path: string): string | undefined {
  try {
    return lstatSync(at).isSymbolicLink() ? readlinkSync(at, 'latin1') : undefined;
  } catch (cause) {
    throw mismatch(path, 'which is not in the source tree', cause);
  }
}

function openFile(root: string, real: string): OpenFile {
  let fd: number;
  try {
    const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
    fd = openSync(inside(root, real), flags);
  } catch (cause) {
    throw mismatch(real, 'which cannot be opened', cause);
  }
  const found = fstatSync(fd);
  if (found.isFile()) return { fd, size: found.size };
  closeSync(fd);
  throw mismatch(real, 'which is no regular file');
}
