import { execFileSync } from 'node:child_process';
import { readFileSync, realpathSync } from 'node:fs';
import { dirname } from 'node:path';
import type { RawEntry } from './raw-tar.ts';

/**
 * Tar entries with a few programs of this machine and the libraries that they need, so that a
 * container can run without any image from elsewhere.
 */
export function hostPrograms(...programs: string[]): RawEntry[] {
  const files = new Map<string, string>();
  for (const program of programs) {
    const path = execFileSync('sh', ['-c', `command -v ${program}`], { encoding: 'utf8' }).trim();
    files.set(`bin/${program}`, path);
    for (const [library] of execFileSync('ldd', [path], { encoding: 'utf8' }).matchAll(/\/\S+/g)) {
      files.set(library.slice(1), library);
    }
  }
  const folders = new Set<string>();
  for (const name of files.keys()) {
    for (let at = dirname(name); at !== '.'; at = dirname(at)) folders.add(at);
  }
  return [
    ...[...folders].sort().map((name) => ({ name, type: '5' })),
    ...[...files].map(([name, path]) => ({
      ...{ name, mode: 0o755, content: readFileSync(realpathSync(path)) },
    })),
  ];
}
