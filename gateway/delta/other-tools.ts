import { spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';

/** A tool that makes a delta from one file to another. */
export type OtherTool = {
  readonly name: string;
  readonly program: string;
  arguments(old: string, fresh: string, out: string): readonly string[];
};

/** Tools that layers are compared with, as they are called for the smallest common result. */
export const OTHER_TOOLS: readonly OtherTool[] = [
  {
    ...{ name: 'tar-diff', program: 'tar-diff' },
    arguments: (old, fresh, out) => [old, fresh, out],
  },
  {
    ...{ name: 'xdelta3 -9', program: 'xdelta3' },
    arguments: (old, fresh, out) => ['-9', '-e', '-q', '-f', '-s', old, fresh, out],
  },
  {
    ...{ name: 'zstd -19 --patch-from', program: 'zstd' },
    // Long windows: matches are looked for in all of the old file.
    arguments: (old, fresh, out) => [
      ...['-q', '-f', '-19', '--long=30', `--patch-from=${old}`, fresh, '-o', out],
    ],
  },
  {
    ...{ name: 'zstd -19, whole', program: 'zstd' },
    arguments: (_, fresh, out) => ['-q', '-f', '-19', fresh, '-o', out],
  },
];

/** Those that are installed. */
export async function installedTools(): Promise<OtherTool[]> {
  const found: OtherTool[] = [];
  for (const tool of OTHER_TOOLS) if (await isInstalled(tool.program)) found.push(tool);
  return found;
}

/**
 * Runs a tool on two files and returns the size of what it makes, in bytes. Throws COMMAND_FAILED,
 * and the reason of `signal`.
 */
export async function runTool(
  tool: OtherTool,
  files: { readonly old: string; readonly fresh: string; readonly out: string },
  signal: AbortSignal,
): Promise<number> {
  const args = tool.arguments(files.old, files.fresh, files.out);
  const child = spawn(tool.program, args, { stdio: 'ignore', signal });
  const status = await new Promise<number | string>((resolve, reject) => {
    child.once('error', (error) => (signal.aborted ? reject(signal.reason) : resolve(`${error}`)));
    child.once('close', (code, name) => resolve(code ?? String(name)));
  });
  signal.throwIfAborted();
  if (status === 0) return (await stat(files.out)).size;
  throw new SnapgateError('COMMAND_FAILED', `${tool.program} failed (${status})`);
}

/** Whether a program is in a folder of PATH. */
export async function isInstalled(program: string): Promise<boolean> {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    if (folder === '') continue;
    const found = await stat(join(folder, program)).catch(() => undefined);
    if (found?.isFile()) return true;
  }
  return false;
}
