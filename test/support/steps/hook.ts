/**
 * Loaded before a program (`node --import`), numbers everything that it does to the machine: each
 * change of the file system and each child process. It writes them down as they come, and kills the
 * program before the one that is asked for. The program itself has no part in it, so no change can be
 * left out, and nobody pays for it outside of tests.
 *
 * Variables: `STEPS_LOG`, the file to write to; `STEPS_STOP`, the number to stop at; `STEPS_COPY`,
 * files to copy at that instant, as JSON `[[from, to], ...]`: what a loss of power would leave.
 */
import childProcess from 'node:child_process';
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { STEPS_LOG = '', STEPS_STOP = '0', STEPS_COPY = '[]' } = process.env;
const stopAt = Number(STEPS_STOP);
const { appendFileSync } = fs;
const { spawnSync } = childProcess;
let count = 0;

/** Programs that only look: before them the machine is as it is before the next step. */
const READERS =
  /^(btrfs subvolume (show|list|get-default)|btrfs property get|podman --version|xz |zstd )/;

function step(kind: 'change' | 'read' | 'during', what: string): void {
  count += 1;
  appendFileSync(STEPS_LOG, `${kind} ${what.replaceAll('\n', ' ')}\n`);
  if (count === stopAt) stop();
}

function stop(): never {
  for (const [from, to] of JSON.parse(STEPS_COPY) as [string, string][]) {
    spawnSync('cp', ['--sparse=always', from, to], { stdio: 'ignore' });
  }
  process.kill(process.pid, 'SIGKILL');
  // The signal comes a moment later: nothing may happen meanwhile.
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

type Wrapped = (this: unknown, ...args: unknown[]) => unknown;

/** Puts a step before each call of a function that changes something; `describe` may say that it does not. */
function numbered(
  owner: object,
  name: string,
  describe: (args: readonly unknown[], self: unknown) => string | undefined,
): void {
  const original = Reflect.get(owner, name) as Wrapped | undefined;
  if (original === undefined) return;
  const wrapped: Wrapped = function (...args) {
    const what = describe(args, this);
    if (what !== undefined) step('change', `${name} ${what}`);
    return Reflect.apply(original, this, args);
  };
  Reflect.set(owner, name, wrapped);
}

const text = (value: unknown): string =>
  Buffer.isBuffer(value) ? value.toString('latin1') : String(value);
const paths = (args: readonly unknown[]): string =>
  args
    .slice(0, 2)
    .filter((arg) => typeof arg === 'string' || Buffer.isBuffer(arg))
    .map(text)
    .join(' ');

const CHANGES = [
  // No `rm`: what it does comes through `unlink` and `rmdir`.
  ...(['mkdir', 'rename', 'rmdir', 'unlink', 'symlink', 'link', 'copyFile', 'cp'] as const),
  ...(['chmod', 'chown', 'lchown', 'utimes', 'lutimes', 'truncate'] as const),
  ...(['writeFile', 'appendFile', 'mkdtemp'] as const),
];
for (const name of CHANGES) {
  numbered(fs.promises, name, paths);
  numbered(fs, `${name}Sync`, (args) => (args[0] === STEPS_LOG ? undefined : paths(args)));
  numbered(fs, name, paths);
}
numbered(fs, 'rmSync', paths);

/** Whether flags of open(2) make or empty a file. */
function makesFile(flags: unknown): boolean {
  if (typeof flags === 'number') return (flags & (fs.constants.O_CREAT | fs.constants.O_TRUNC)) > 0;
  return typeof flags === 'string' && !flags.startsWith('r');
}
const opened = ([path, flags]: readonly unknown[]) => (makesFile(flags) ? text(path) : undefined);
for (const name of ['open', 'openSync'] as const) numbered(fs, name, opened);
numbered(fs.promises, 'open', opened);

/** How often each open file was written to: the first two writes tell empty from partly written. */
const writes = new Map<unknown, number>();
function written(file: unknown): string | undefined {
  if (file === 1 || file === 2) return undefined;
  const times = (writes.get(file) ?? 0) + 1;
  writes.set(file, times);
  return times <= 2 ? `number ${times}` : undefined;
}
for (const name of ['write', 'writeSync', 'writev', 'writevSync'] as const) {
  numbered(fs, name, ([fd]) => written(fd));
}
for (const name of ['fsync', 'fdatasync', 'fsyncSync', 'fdatasyncSync', 'ftruncate'] as const) {
  numbered(fs, name, () => 'an open file');
}
for (const name of ['close', 'closeSync'] as const) {
  numbered(fs, name, ([fd]) => {
    writes.delete(fd);
    return undefined;
  });
}
const probe = await fs.promises.open('/dev/null', 'r');
const handles = Object.getPrototypeOf(probe) as object;
await probe.close();
for (const name of ['write', 'writev'] as const)
  numbered(handles, name, (_, self) => written(self));
for (const name of ['writeFile', 'appendFile', 'sync', 'datasync', 'truncate', 'chmod'] as const) {
  numbered(handles, name, () => 'an open file');
}

const { spawn } = childProcess;
function numberedSpawn(this: unknown, program: string, args: readonly string[], options: object) {
  const line = [program, ...args].join(' ');
  const isReader = READERS.test(line);
  step(isReader ? 'read' : 'change', line);
  const child = spawn.call(this, program, args, options);
  if (!isReader) step('during', line);
  return child;
}
Reflect.set(childProcess, 'spawn', numberedSpawn);
syncBuiltinESMExports();
