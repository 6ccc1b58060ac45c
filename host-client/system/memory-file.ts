import { loadKoffi } from './koffi.ts';

const MFD_CLOEXEC = 1;

type Create = (name: string, flags: number) => number;
let create: Create | undefined;

/**
 * Opens a file that is in memory alone and is gone when it is closed (memfd_create(2)); undefined
 * where the kernel has none. Its bytes count as memory that is used until then.
 */
export function openMemoryFile(name: string): number | undefined {
  create ??= loadKoffi().load(null).func('int memfd_create(const char *name, unsigned int flags)');
  const fd = create(name, MFD_CLOEXEC);
  return fd < 0 ? undefined : fd;
}
