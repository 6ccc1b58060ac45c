import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const FOLDER = fileURLToPath(new URL('corpus/', import.meta.url));
/** Larger inputs are not kept: they are only long. */
const MAX_KEPT = 4 * 1024;
/** Most inputs of one parser that are kept because they ended in a way of their own. */
const MAX_FILES = 40;

/** Inputs that were kept for a parser: those that ended in a way of their own, and those that failed. */
export function readCorpus(name: string): Buffer[] {
  const folder = join(FOLDER, name);
  try {
    return readdirSync(folder)
      .sort()
      .map((file) => readFileSync(join(folder, file)));
  } catch {
    return [];
  }
}

/** Keeps an input under a name that follows from it; says where. */
export function keep(name: string, kind: 'new' | 'failed', input: Uint8Array): string {
  const folder = join(FOLDER, name);
  mkdirSync(folder, { recursive: true });
  const isEnough = input.length > MAX_KEPT || readdirSync(folder).length >= MAX_FILES;
  if (kind === 'new' && isEnough) return '';
  const hash = createHash('sha256').update(input).digest('hex').slice(0, 12);
  const path = join(folder, `${kind}-${hash}`);
  writeFileSync(path, input);
  return path;
}
