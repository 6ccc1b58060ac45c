import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const HOOK = fileURLToPath(new URL('./hook.ts', import.meta.url));

/** One thing that a program does to the machine. */
export type Step = {
  /** Counted from 1. */
  readonly number: number;
  /** `read` is a program that only looks; `during` is the time while a child process runs. */
  readonly kind: 'change' | 'read' | 'during';
  readonly what: string;
};

/** How a program under the hook ended, and all steps up to there. */
export type SteppedRun = {
  /** Exit status; null when it was stopped. */
  readonly status: number | null;
  readonly steps: readonly Step[];
  readonly stdout: string;
};

/** Where a program is to be killed, and which files are copied at that instant. */
export type StopAt = {
  readonly step: number;
  readonly copies?: readonly (readonly [from: string, to: string])[];
};

/** Runs a script of Node.js with its steps numbered, and kills it before one of them. */
export async function runStepped(argv: readonly string[], stop?: StopAt): Promise<SteppedRun> {
  const log = join(tmpdir(), `snapgate-steps-${process.pid}-${Date.now()}`);
  const child = spawn(process.execPath, ['--import', HOOK, ...argv], {
    stdio: ['ignore', 'pipe', 'ignore'],
    env: {
      ...process.env,
      ...{ STEPS_LOG: log, STEPS_STOP: String(stop?.step ?? 0) },
      STEPS_COPY: JSON.stringify(stop?.copies ?? []),
    },
  });
  const printed: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => printed.push(chunk));
  // Programs that it started live on for a moment; the output is closed when they are gone, too.
  const [status] = (await once(child, 'close')) as [number | null];
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n');
  rmSync(log);
  const steps = lines.map((line, i): Step => {
    const space = line.indexOf(' ');
    const kind = line.slice(0, space) as Step['kind'];
    return { number: i + 1, kind, what: line.slice(space + 1) };
  });
  return { status, steps, stdout: Buffer.concat(printed).toString('utf8') };
}
