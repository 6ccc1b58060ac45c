import { unwatchFile, watchFile } from 'node:fs';

/** How often files are looked at, in milliseconds. */
const LOOK_MS = 2000;

/** Calls `reload` when one of the files changes. Gives what ends it. */
export function followFiles(files: readonly string[], reload: () => Promise<void>): () => void {
  const look = () => void reload();
  for (const file of files) watchFile(file, { interval: LOOK_MS, persistent: false }, look);
  return () => {
    for (const file of files) unwatchFile(file, look);
  };
}
