import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';

/** What a program that was run left behind. */
export type Outcome = { readonly code: number; readonly out: string; readonly err: string };

export type RunOptions = {
  readonly env?: Readonly<Record<string, string>>;
  /** Text for standard input; nothing by default. */
  readonly input?: string;
  /** Return a failure instead of throwing it. */
  readonly mayFail?: boolean;
  /** Pass standard error on to the terminal. */
  readonly loud?: boolean;
};

/** One thing to undo; a service is stopped even when the place is kept. */
type Undo = {
  readonly what: string;
  readonly act: () => Promise<unknown>;
  readonly kind: 'service' | 'place';
};

/**
 * The place where the demo plays: a folder, and a list of what has to be undone. `close` undoes all
 * of it, last first, whatever happened before.
 */
export class Stage {
  readonly dir: string;
  readonly signal: AbortSignal;
  readonly #undo: Undo[] = [];

  private constructor(dir: string, signal: AbortSignal) {
    this.dir = dir;
    this.signal = signal;
  }

  static async open(parent: string, signal: AbortSignal): Promise<Stage> {
    const dir = await mkdtemp(join(parent, 'snapgate-demo-'));
    const stage = new Stage(dir, signal);
    stage.later(`rm -r ${dir}`, () => rm(dir, { recursive: true, force: true }), 'place');
    return stage;
  }

  path(...names: string[]): string {
    return join(this.dir, ...names);
  }

  /** Remembers what has to be undone: before all that was remembered earlier. */
  later(what: string, act: () => Promise<unknown>, kind: Undo['kind'] = 'service'): void {
    this.#undo.push({ what, act, kind });
  }

  /** Remembers a program that undoes something. */
  laterRun(...argv: string[]): void {
    this.later(argv.join(' '), () => runProgram(argv, {}), 'place');
  }

  /**
   * Undoes everything, or stops the services alone when the place is to be kept. Answers with what
   * is left to do by hand.
   */
  async close(keepPlace: boolean): Promise<string[]> {
    const left: string[] = [];
    for (let step = this.#undo.pop(); step !== undefined; step = this.#undo.pop()) {
      // After a failure the folder may hold a mount: nothing of the place is touched any more.
      if (step.kind === 'place' && (keepPlace || left.length > 0)) left.push(step.what);
      else await step.act().catch(() => left.push(step.what));
    }
    return left;
  }

  /** Runs a program to its end; stops it when the demo is interrupted. */
  run(argv: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    this.signal.throwIfAborted();
    return runProgram(argv, options, this.signal);
  }

  /** Runs a program that prints one JSON object. */
  async json(
    argv: readonly string[],
    options: RunOptions = {},
  ): Promise<Outcome & { value: Json }> {
    const outcome = await this.run(argv, options);
    return { ...outcome, value: parseJson(argv, outcome) };
  }

  /** Starts a program that stays, and stops it at the end. */
  start(argv: readonly string[], env: Readonly<Record<string, string>>, log: number): ChildProcess {
    const [program = '', ...args] = argv;
    const child = spawn(program, args, {
      stdio: ['ignore', log, log],
      env: { ...process.env, ...env },
    });
    const ended = new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
      child.once('error', () => resolve());
    });
    this.later(`stop ${program}`, async () => {
      child.kill('SIGTERM');
      const hard = setTimeout(() => child.kill('SIGKILL'), 5000);
      await ended;
      clearTimeout(hard);
    });
    return child;
  }
}

/** A value that came as JSON. */
export type Json = { readonly [name: string]: unknown };

function parseJson(argv: readonly string[], { code, out, err }: Outcome): Json {
  try {
    return JSON.parse(out) as Json;
  } catch {
    throw new Error(`${argv.join(' ')} printed no JSON (exit status ${code}): ${out}${err}`);
  }
}

/** Runs a program to its end. Throws when it fails, with what it printed. */
export function runProgram(
  argv: readonly string[],
  options: RunOptions,
  signal?: AbortSignal,
): Promise<Outcome> {
  const [program = '', ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['pipe', 'pipe', options.loud ? 'inherit' : 'pipe'],
      env: { ...process.env, ...options.env },
      ...(signal === undefined ? {} : { signal }),
    });
    const text = { out: '', err: '' };
    child.stdout?.setEncoding('utf8').on('data', (chunk) => {
      text.out += chunk;
    });
    child.stderr?.setEncoding('utf8').on('data', (chunk) => {
      text.err += chunk;
    });
    child.stdin?.on('error', () => {}).end(options.input ?? '');
    child.once('error', reject);
    child.once('close', (code) => {
      const outcome = { code: code ?? 1, ...text };
      if (code === 0 || options.mayFail) resolve(outcome);
      else reject(new Error(`${argv.join(' ')} failed (exit status ${code})\n${text.err}`.trim()));
    });
  });
}
