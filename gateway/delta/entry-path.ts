import { SnapgateError } from '../../shared/errors.ts';

/**
 * The parts of an entry's path inside the image: without `.` and empty parts. None for the root
 * itself. Throws TAR_INVALID for an absolute path and for one with `..`.
 */
export function entryParts(path: string): string[] {
  if (path.startsWith('/')) throw outside(path, 'is absolute');
  return parts(path);
}

/** The same for the target of a hard link, which Podman reads from the image's root. */
export function linkParts(path: string): string[] {
  return parts(path);
}

/** The last part of a path, of any kind. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function parts(path: string): string[] {
  const found = path.split('/').filter((part) => part !== '' && part !== '.');
  if (found.includes('..')) throw outside(path, "holds '..'");
  return found;
}

function outside(path: string, why: string): SnapgateError {
  return new SnapgateError('TAR_INVALID', `the path of a tar entry ${why}`, {
    where: path,
    hint: 'Build the layer anew with paths relative to the root of the image.',
  });
}
