import { loadKoffi } from './koffi.ts';

type SetXattr = (
  path: string,
  name: string,
  value: Uint8Array,
  size: number,
  flags: number,
) => number;

let set: SetXattr | undefined;

/** Sets an extended attribute; says whether that was possible. Node.js has no call for it. */
export function setXattr(path: string, name: string, value: string): boolean {
  const signature =
    'int setxattr(const char *path, const char *name, void *value, size_t n, int f)';
  set ??= loadKoffi().load(null).func(signature);
  const bytes = Buffer.from(value);
  return set(path, name, bytes, bytes.length, 0) === 0;
}
