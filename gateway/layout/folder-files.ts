import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import type { LayoutFiles } from '../../shared/oci/layout/layout-files.ts';

/** The files of a layout folder. */
export function folderFiles(dir: string): LayoutFiles {
  return {
    name: `oci:${dir}`,
    find: async (path) => {
      const handle = await openRegularFile(join(dir, path));
      if (handle === undefined) return undefined;
      const { size } = await handle.stat();
      return { handle, start: 0, size, close: () => handle.close() };
    },
  };
}

/**
 * Opens a regular file for reading; undefined when there is none. A FIFO or a device, which could
 * block or never end, is refused. Some build tools link blobs, so symbolic links are followed: the
 * digest decides on the content. Throws MANIFEST_INVALID.
 */
async function openRegularFile(path: string): Promise<FileHandle | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw cause;
  }
  if ((await handle.stat()).isFile()) return handle;
  await handle.close();
  throw new SnapgateError('MANIFEST_INVALID', 'not a regular file', { where: path });
}
