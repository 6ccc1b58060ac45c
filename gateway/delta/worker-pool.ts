import { Worker } from 'node:worker_threads';
import { SnapgateError } from '../../shared/errors.ts';
import type { WorkRequest, WorkResult } from './delta-work.ts';
import { giveBackMemory, YOUNG_GENERATION_MB } from './keep-memory-small.ts';

type Task = {
  readonly request: WorkRequest;
  resolve(result: unknown): void;
  reject(error: unknown): void;
};
type Answer = {
  readonly result?: unknown;
  readonly error?: ReturnType<SnapgateError['toJSON']>;
};

/** Beyond this much a thread ends, instead of the process. */
const MAX_HEAP_MB = 768;

/** A fixed number of worker threads that take requests in turn. */
export class WorkerPool {
  readonly size: number;
  readonly #workers: Worker[] = [];
  readonly #idle: Worker[] = [];
  readonly #waiting: Task[] = [];
  readonly #running = new Map<Worker, Task>();
  #failure: unknown;

  constructor(size: number) {
    this.size = size;
    for (let i = 0; i < size; i += 1) this.#start();
  }

  /** Has one of the threads do it. Rejects with what it threw, or when the pool is closed. */
  run<Kind extends WorkRequest['kind']>(
    request: Extract<WorkRequest, { kind: Kind }>,
  ): Promise<WorkResult[Kind]> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure);
        return;
      }
      this.#waiting.push({ request, resolve: resolve as Task['resolve'], reject });
      this.#next();
    });
  }

  /** Has all threads give back what they keep; while none has anything to do. */
  async tidy(): Promise<void> {
    await Promise.all(this.#workers.map(() => this.run({ kind: 'tidy' })));
    giveBackMemory();
  }

  /** Stops the threads; what is not finished rejects with `reason`. */
  async close(
    reason: unknown = new SnapgateError('CANCELLED', 'the work was stopped'),
  ): Promise<void> {
    this.#fail(reason);
    await Promise.all(this.#workers.splice(0).map((worker) => worker.terminate()));
  }

  #start(): void {
    const worker = new Worker(new URL('./delta-worker.ts', import.meta.url), {
      resourceLimits: {
        maxOldGenerationSizeMb: MAX_HEAP_MB,
        maxYoungGenerationSizeMb: YOUNG_GENERATION_MB,
      },
    });
    worker.on('message', (answer: Answer) => this.#finish(worker, answer));
    worker.on('error', (error) => this.#fail(threadError(error)));
    this.#workers.push(worker);
    this.#idle.push(worker);
  }

  #next(): void {
    while (this.#waiting.length > 0) {
      const worker = this.#idle.pop();
      if (worker === undefined) return;
      const task = this.#waiting.shift() as Task;
      this.#running.set(worker, task);
      worker.postMessage(task.request);
    }
  }

  #finish(worker: Worker, { result, error }: Answer): void {
    const task = this.#running.get(worker);
    this.#running.delete(worker);
    this.#idle.push(worker);
    if (error === undefined) task?.resolve(result);
    else task?.reject(new SnapgateError(error.code, error.message, error));
    this.#next();
  }

  #fail(reason: unknown): void {
    this.#failure ??= reason;
    const tasks = [...this.#running.values(), ...this.#waiting.splice(0)];
    this.#running.clear();
    for (const task of tasks) task.reject(this.#failure);
  }
}

/** What ended a thread; one that ran out of memory had content of a kind that no limit foresees. */
export function threadError(error: Error): Error {
  if ((error as NodeJS.ErrnoException).code !== 'ERR_WORKER_OUT_OF_MEMORY') return error;
  return new SnapgateError('LIMIT_EXCEEDED', 'making the delta takes more memory than allowed', {
    cause: error,
    hint: 'Allow more memory, or pull the image as it is.',
  });
}
