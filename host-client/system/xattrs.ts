import { loadKoffi } from './koffi.ts';

// Node.js has no calls for extended attributes.
type SetXattr = (
  path: string,
  name: string,
  value: Uint8Array,
  size: number,
  flags: number,
) => number;
type GetXattr = (path: string, name: string, value: null, size: number) => number;
type RemoveXattr = (path: string, name: string) => number;

let calls: { set: SetXattr; get: GetXattr; remove: RemoveXattr } | undefined;

function load(): NonNullable<typeof calls> {
  if (calls !== undefined) return calls;
  const library = loadKoffi().load(null);
  calls = {
    set: library.func(
      'int setxattr(const char *path, const char *name, void *value, size_t n, int f)',
    ),
    get: library.func('long getxattr(const char *path, const char *name, void *value, size_t n)'),
    remove: library.func('int removexattr(const char *path, const char *name)'),
  };
  return calls;
}

/** Sets an extended attribute; says whether that was possible. */
export function setXattr(path: string, name: string, value: string): boolean {
  const bytes = Buffer.from(value);
  return load().set(path, name, bytes, bytes.length, 0) === 0;
}

/** Whether there is an extended attribute. */
export function hasXattr(path: string, name: string): boolean {
  return load().get(path, name, null, 0) >= 0;
}

/** Removes an extended attribute; says whether that was possible. */
export function removeXattr(path: string, name: string): boolean {
  return load().remove(path, name) === 0;
}
