import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** How a program ended, and what it printed. */
export type Ended = { readonly status: number; readonly stdout: string; readonly stderr: string };

/**
 * Runs a program to its end, whatever its exit status, or stops it after so many `minutes`. Throws when
 * it cannot be started.
 */
export function runProgramFile(
  file: string,
  args: readonly string[],
  options: {
    readonly env?: Readonly<Record<string, string>>;
    readonly cwd?: string;
    readonly minutes?: number;
  } = {},
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...options.env };
    const { cwd, minutes = 4 } = options;
    const limits = { maxBuffer: 64 * 1024 * 1024, timeout: minutes * 60_000 };
    execFile(file, args, { ...limits, env, cwd }, (error, stdout, stderr) => {
      const code = error?.code ?? 0;
      if (typeof code === 'number') resolve({ status: code, stdout, stderr });
      else reject(error);
    });
  });
}

const GATEWAY = fileURLToPath(new URL('../../gateway/main.ts', import.meta.url));

/** Runs `snapgate` from this checkout. */
export function snapgate(
  args: readonly string[],
  options: { readonly env?: Readonly<Record<string, string>>; readonly cwd?: string } = {},
): Promise<Ended> {
  return runProgramFile(process.execPath, [GATEWAY, ...args], options);
}
