import { type ChildProcess, spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';

/** Most bytes kept of what a program prints on its standard error; its last ones say most. */
const MAX_STDERR_BYTES = 16 * 1024;
/** Most bytes that a program may print as its result. */
const MAX_STDOUT_BYTES = 64 * 1024 * 1024;
/** How long a program may take to end once it was asked to. */
const GRACE_MS = 5_000;

/** How often it is looked whether a program has got somewhere. */
const POLL_MS = 3;

/** How a program is run. */
export type RunOptions = {
  /** Ends the program (SIGTERM, then SIGKILL) and makes the call throw CANCELLED. */
  readonly signal?: AbortSignal | undefined;
  /** Variables on top of this process's own. */
  readonly env?: Readonly<Record<string, string>>;
  /** What the reader can do when it fails, perhaps by what it said. */
  readonly hint?: string | ((words: string) => string);
};

/** What a program printed. */
export type RunResult = { readonly stdout: string; readonly stderr: string };

/**
 * Runs a program and waits for it: arguments as they are, never through a shell; nothing on its
 * standard input; messages in English. Success is exit status 0 and nothing else. Throws
 * COMMAND_FAILED with the program's last words, NO_SPACE when these say so, CANCELLED.
 */
export async function run(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  const running = new RunningProgram(program, args, options);
  return await running.end();
}

/**
 * A program that reads a stream. Write, then {@link RunningProgram.end}; always end or
 * {@link RunningProgram.kill} it.
 */
export class RunningProgram {
  readonly #name: string;
  readonly #options: RunOptions;
  readonly #child: ChildProcess;
  readonly #exit: Promise<void>;
  readonly #stdout: Buffer[] = [];
  #stdoutBytes = 0;
  #stderr = Buffer.alloc(0);
  #failure: SnapgateError | undefined;
  #exited = false;
  #written: Promise<void> = Promise.resolve();

  constructor(program: string, args: readonly string[], options: RunOptions = {}) {
    this.#name = [program, ...args.slice(0, args[0]?.startsWith('-') ? 0 : 2)].join(' ');
    this.#options = options;
    // Programs of administrators are not always in the path of a service.
    const path = `${process.env.PATH ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`;
    this.#child = spawn(program, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, PATH: path, LC_ALL: 'C', ...options.env },
    });
    this.#collect();
    this.#exit = this.#watch();
  }

  #collect(): void {
    const { stdin, stdout, stderr } = this.#child;
    stdout?.on('data', (chunk: Buffer) => {
      this.#stdoutBytes += chunk.length;
      if (this.#stdoutBytes <= MAX_STDOUT_BYTES) this.#stdout.push(chunk);
      else this.#fail(new SnapgateError('LIMIT_EXCEEDED', `${this.#name} prints too much`));
    });
    stderr?.on('data', (chunk: Buffer) => {
      this.#stderr = Buffer.concat([this.#stderr, chunk]).subarray(-MAX_STDERR_BYTES);
    });
    // A program that ends before it has read everything tells why by its exit status.
    stdin?.on('error', () => undefined);
  }

  #watch(): Promise<void> {
    const { signal } = this.#options;
    const onAbort = () => this.#fail(new SnapgateError('CANCELLED', 'cancelled'));
    if (signal?.aborted) onAbort();
    signal?.addEventListener('abort', onAbort, { once: true });
    return new Promise<void>((resolve) => {
      this.#child.once('error', (cause) => {
        this.#failure ??= notStarted(this.#name, cause);
        if (this.#child.pid === undefined) resolve();
      });
      this.#child.once('close', (status, killedBy) => {
        if (status !== 0) this.#failure ??= this.#failed(status, killedBy);
        resolve();
      });
    }).finally(() => {
      this.#exited = true;
      signal?.removeEventListener('abort', onAbort);
    });
  }

  #failed(status: number | null, killedBy: string | null): SnapgateError {
    const words = this.#stderr.toString('utf8').trim();
    const how = killedBy === null ? `exit status ${status}` : `ended by ${killedBy}`;
    const message = `${this.#name} failed (${how})${words === '' ? '' : `: ${words}`}`;
    if (/no space left on device|disk quota exceeded/i.test(words)) {
      const hint = 'Free some space and run the same command again.';
      return new SnapgateError('NO_SPACE', message, { hint });
    }
    const { hint } = this.#options;
    const advice = typeof hint === 'function' ? hint(words) : hint;
    return new SnapgateError(
      'COMMAND_FAILED',
      message,
      advice === undefined ? {} : { hint: advice },
    );
  }

  #fail(reason: SnapgateError): void {
    this.#failure ??= reason;
    if (this.#exited) return;
    this.#child.kill('SIGTERM');
    setTimeout(() => this.#exited || this.#child.kill('SIGKILL'), GRACE_MS).unref();
  }

  /**
   * Sends bytes, which must stay as they are until the next call returns: that is when they are
   * known to be gone. Throws as {@link RunningProgram.end} once the program has ended.
   */
  async write(bytes: Uint8Array): Promise<void> {
    await this.#written;
    if (this.#exited || this.#failure !== undefined) {
      await this.end();
      throw new SnapgateError('COMMAND_FAILED', `${this.#name} ended before its input did`);
    }
    const { stdin } = this.#child;
    this.#written = new Promise((resolve) => {
      // Bytes that nobody reads any more are written when the program is gone.
      stdin?.write(bytes, (error) => resolve(error ? this.#exit : undefined));
    });
  }

  /**
   * Waits until what was sent shows its effect, by which `isDone` tells, while the program goes on.
   * Throws as {@link RunningProgram.end} once the program has ended.
   */
  async until(isDone: () => boolean): Promise<void> {
    await this.#written;
    while (!isDone()) {
      if (this.#exited) {
        await this.end();
        throw new SnapgateError('COMMAND_FAILED', `${this.#name} ended before it was done`);
      }
      await sleep(POLL_MS);
    }
  }

  /** Closes the program's input and waits for its end. Throws COMMAND_FAILED, NO_SPACE, CANCELLED. */
  async end(): Promise<RunResult> {
    this.#child.stdin?.end();
    await this.#exit;
    if (this.#failure !== undefined) throw this.#failure;
    return {
      stdout: Buffer.concat(this.#stdout).toString('utf8'),
      stderr: this.#stderr.toString('utf8'),
    };
  }

  /** Ends the program without waiting for its work, and waits until it is gone. */
  async kill(): Promise<void> {
    this.#fail(toSnapgateError(new SnapgateError('CANCELLED', 'cancelled')));
    await this.#exit;
  }
}

/**
 * What a program makes of a stream: its standard output, as it comes. The program is gone when the
 * iteration ends, also early. Throws COMMAND_FAILED, and what reading `input` throws.
 */
export async function* pipeThrough(
  program: string,
  args: readonly string[],
  input: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'ignore'] });
  const ended = new Promise<number | string | Error>((resolve) => {
    child.once('error', resolve);
    child.once('close', (status, signal) => resolve(status ?? String(signal)));
  });
  let thrown: unknown;
  const fed = pipeline(Readable.from(input), child.stdin).catch((error: unknown) => {
    thrown = error;
    child.kill('SIGKILL');
  });
  try {
    yield* child.stdout;
    const status = await ended;
    await fed;
    if (status instanceof Error) throw notStarted(program, status);
    if (status === 0 && thrown === undefined) return;
    if (thrown instanceof SnapgateError) throw thrown;
    throw new SnapgateError('COMMAND_FAILED', `${program} failed (${status})`, { cause: thrown });
  } finally {
    child.kill('SIGKILL');
    await ended;
    await fed;
  }
}

function notStarted(name: string, cause: Error): SnapgateError {
  const program = name.split(' ')[0] ?? name;
  if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') {
    return new SnapgateError('COMMAND_FAILED', `${program} cannot be run: ${cause.message}`, {
      cause,
    });
  }
  return new SnapgateError('COMMAND_FAILED', `the program ${program} is not installed`, {
    hint: `Install the package that brings ${program}.`,
    cause,
  });
}
