import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { SnapgateError } from '../../shared/errors.ts';
import { loadKoffi } from './koffi.ts';

const F_SETLK = 6;
const F_WRLCK = 1;
const EACCES = 13;
const EAGAIN = 11;
const RETRY_MS = 50;

/** How a lock is waited for. */
export type LockOptions = {
  /** How long to wait, in milliseconds; 0 tries once. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Makes the error for a lock that somebody else kept. */
  readonly busy: () => SnapgateError;
};

type Fcntl = {
  set(fd: number, command: number, lock: Buffer): number;
  errno(): number;
};
let fcntl: Fcntl | undefined;

/** Node.js has no fcntl(2), and Podman looks at no other kind of lock. */
function loadFcntl(): Fcntl {
  if (fcntl !== undefined) return fcntl;
  const koffi = loadKoffi();
  const set = koffi.load(null).func('int fcntl(int fd, int command, void *lock)');
  fcntl = { set, errno: () => koffi.errno() };
  return fcntl;
}

/** `struct flock` of 64-bit Linux: a write lock on the whole file. */
function wholeFile(): Buffer {
  const lock = Buffer.alloc(32);
  lock.writeInt16LE(F_WRLCK, 0);
  return lock;
}

/** Locks of this process, which fcntl(2) does not hold against each other. */
const held = new Set<string>();

/**
 * A lock on a whole file, held against other processes by fcntl(2) and against this one too. It ends
 * with the process at the latest. Nobody else in this process may open the file meanwhile: closing
 * any descriptor of it would end the lock.
 */
export class FileLock implements Disposable {
  readonly #path: string;
  readonly #fd: number;
  #open = true;

  private constructor(path: string, fd: number) {
    this.#path = path;
    this.#fd = fd;
  }

  /** Waits for the lock; makes the file when there is none. Throws `busy()`, CANCELLED. */
  static async acquire(path: string, options: LockOptions): Promise<FileLock> {
    const deadline = performance.now() + options.timeoutMs;
    for (;;) {
      options.signal?.throwIfAborted();
      const lock = FileLock.#try(path);
      if (lock !== undefined) return lock;
      if (performance.now() >= deadline) throw options.busy();
      await sleep(RETRY_MS, undefined, { ...(options.signal && { signal: options.signal }) });
    }
  }

  static #try(path: string): FileLock | undefined {
    if (held.has(path)) return undefined;
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o644);
    const { set, errno } = loadFcntl();
    if (set(fd, F_SETLK, wholeFile()) === 0) {
      held.add(path);
      return new FileLock(path, fd);
    }
    const number = errno();
    closeSync(fd);
    if (number === EACCES || number === EAGAIN) return undefined;
    throw new SnapgateError('INTERNAL', `fcntl failed with errno ${number}`, { where: path });
  }

  /** Replaces the content of the locked file. */
  write(bytes: Uint8Array): void {
    writeSync(this.#fd, bytes, 0, bytes.length, 0);
  }

  /** Gives the lock back. May be called twice. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    held.delete(this.#path);
    closeSync(this.#fd);
  }
}
