import { closeSync, mkdirSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { Workspace } from '../../shared/delta/workspace.ts';
import { buffersPassed } from '../system/tidy-memory.ts';

/** Name of their folder in the storage's own. */
export const PARTS = 'parts';

let created = 0;

/**
 * Room for what is kept while a delta is applied: files below a folder, which lose their names at
 * once, so that nothing is left behind whatever happens.
 */
export function workFiles(folder: string): Workspace {
  return {
    create() {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const path = join(folder, `part-${process.pid}-${created++}`);
      const fd = openSync(path, 'wx+', 0o600);
      unlinkSync(path);
      return {
        write(bytes, offset) {
          for (let at = 0; at < bytes.length; ) {
            at += writeSync(fd, bytes, at, bytes.length - at, offset + at);
          }
          buffersPassed(bytes.length);
        },
        read: (target, offset) => readSync(fd, target, 0, target.length, offset),
        close: () => closeSync(fd),
      };
    },
  };
}
