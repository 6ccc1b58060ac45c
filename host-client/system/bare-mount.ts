import { closeSync } from 'node:fs';
import { loadKoffi } from './koffi.ts';

/** `open_tree(2)`: the same number on all processors since Linux 5.2. */
const SYS_OPEN_TREE = 428;
const AT_FDCWD = -100;
const OPEN_TREE_CLONE = 1;
const OPEN_TREE_CLOEXEC = 0o2000000;

type OpenTree = (number: number, folder: number, path: string, flags: number) => number;
let openTree: OpenTree | undefined;

/**
 * Lets `action` see a folder as its file system has it, without what is mounted below it: the path that
 * it gets leads there for as long as it runs. Undefined, and no action, where the kernel cannot do that.
 */
export async function withoutMounts<T>(
  folder: string,
  action: (bare: string) => Promise<T>,
): Promise<T | undefined> {
  openTree ??= loadKoffi()
    .load(null)
    .func('long syscall(long number, int folder, const char *path, unsigned int flags)');
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  const fd = openTree(SYS_OPEN_TREE, AT_FDCWD, folder, flags);
  if (fd < 0) return undefined;
  try {
    return await action(`/proc/self/fd/${fd}`);
  } finally {
    closeSync(fd);
  }
}
