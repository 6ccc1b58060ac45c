import { Worker } from 'node:worker_threads';
import { SnapgateError } from '../../shared/errors.ts';

/** Most comparisons under way and waiting; one takes up to some tenths of a second. */
const MAX_OPEN = 32;

export type BcryptTask = { readonly id: number; readonly password: string; readonly hash: string };
export type BcryptAnswer = { readonly id: number; readonly isRight: boolean };

/** Compares a password with a bcrypt hash. */
export type ComparePassword = (password: string, hash: string) => Promise<boolean>;

/**
 * Compares in one thread of its own, so that logins cost at most one processor and never hold up an
 * answer. It starts with the first comparison.
 */
export class BcryptThread {
  #worker: Worker | undefined;
  #serial = 0;
  readonly #open = new Map<number, PromiseWithResolvers<boolean>>();

  /** Throws TOOMANYREQUESTS when too many wait already. */
  readonly compare: ComparePassword = (password, hash) => {
    if (this.#open.size >= MAX_OPEN) {
      const busy = new SnapgateError('TOOMANYREQUESTS', 'too many logins at once', {
        hint: 'Try again in a few seconds.',
        retryAfter: 5,
      });
      return Promise.reject(busy);
    }
    this.#serial += 1;
    const waiting = Promise.withResolvers<boolean>();
    this.#open.set(this.#serial, waiting);
    const task: BcryptTask = { id: this.#serial, password, hash };
    this.#worker ??= this.#start();
    this.#worker.postMessage(task);
    return waiting.promise;
  };

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  #start(): Worker {
    const worker = new Worker(new URL('./bcrypt-thread.ts', import.meta.url));
    worker.unref();
    worker.on('message', ({ id, isRight }: BcryptAnswer) => {
      this.#open.get(id)?.resolve(isRight);
      this.#open.delete(id);
    });
    worker.once('error', () => {});
    worker.once('exit', () => {
      this.#worker = undefined;
      for (const { reject } of this.#open.values()) reject(new Error('the login thread ended'));
      this.#open.clear();
    });
    return worker;
  }
}
