import { spawn } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** What a program took: CPU seconds of all its threads and children, and peak memory in bytes. */
export type Cost = { readonly cpu: number; readonly memory: number };

export const NO_COST: Cost = { cpu: 0, memory: 0 };

/** Of programs that ran one after the other. */
export function addCosts(a: Cost, b: Cost): Cost {
  return { cpu: a.cpu + b.cpu, memory: Math.max(a.memory, b.memory) };
}

export type Run = { readonly out: string; readonly code: number; readonly cost: Cost };

/**
 * Runs a program under GNU time, which tells its CPU time with that of its children, and the peak
 * memory of the largest of them. `folder` is for its notes.
 */
export async function run(folder: string, program: string, args: readonly string[]): Promise<Run> {
  const notes = join(folder, 'time');
  const timed = ['-q', '-f', '%U %S %M', '-o', notes, program, ...args];
  const child = spawn('/usr/bin/time', timed, { stdio: ['ignore', 'pipe', 'inherit'] });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    out += chunk;
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => resolve(status ?? 1));
  });
  const [user = 0, system = 0, peak = 0] = (await readFile(notes, 'utf8')).split(' ').map(Number);
  await rm(notes);
  return { out, code, cost: { cpu: user + system, memory: peak * 1024 } };
}

/** The same, for what must succeed. */
export async function runWell(
  folder: string,
  program: string,
  args: readonly string[],
): Promise<Run> {
  const done = await run(folder, program, args);
  if (done.code !== 0) throw new Error(`${program} ended with exit status ${done.code}`);
  return done;
}
