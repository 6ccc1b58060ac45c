import { closeSync, mkdirSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Workspace } from '../../shared/delta/workspace.ts';
import { openMemoryFile } from '../system/memory-file.ts';
import { buffersPassed } from '../system/tidy-memory.ts';
import { setXattr } from '../system/xattrs.ts';

/** Name of their folder in the storage's own. */
export const PARTS = 'parts';

/** Of the memory that is free, a file may take one part in so many. */
const MEMORY_SHARE = 8;
/** What a file of unknown size, which holds headers of layers, is taken for. */
const UNKNOWN_BYTES = 16 * 1024 * 1024;

let created = 0;

/**
 * Room for what is kept while a delta is applied: files in memory where much is free, which spares
 * the disk, and below a folder elsewhere. Those lose their names at once, so that nothing is left
 * behind whatever happens.
 */
export function workFiles(
  folder: string,
  freeMemory: () => number = () => process.availableMemory(),
): Workspace {
  return {
    create(size) {
      const fits = (size || UNKNOWN_BYTES) <= freeMemory() / MEMORY_SHARE;
      const fd = (fits ? openMemoryFile('snapgate-part') : undefined) ?? openNameless(folder);
      return {
        write(bytes, offset) {
          for (let at = 0; at < bytes.length; ) {
            at += writeSync(fd, bytes, at, bytes.length - at, offset + at);
          }
          buffersPassed(bytes.length);
        },
        read(target, offset) {
          buffersPassed(target.length);
          return readSync(fd, target, 0, target.length, offset);
        },
        close: () => closeSync(fd),
      };
    },
  };
}

function openNameless(folder: string): number {
  const made = mkdirSync(folder, { recursive: true, mode: 0o700 });
  // What reaches the disk before it is closed is then at least compressed, on btrfs.
  if (made !== undefined) setXattr(folder, 'btrfs.compression', 'zstd');
  const path = join(folder, `part-${process.pid}-${created++}`);
  const fd = openSync(path, 'wx+', 0o600);
  unlinkSync(path);
  return fd;
}
