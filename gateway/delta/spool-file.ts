import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { SnapgateError } from '../../shared/errors.ts';
import type { ByteSource } from '../../shared/recompress/part.ts';

/** Fills `target` with the bytes from `offset`. Throws when the file ends before. */
export type ReadRange = (target: Uint8Array, offset: number) => void;

const BUFFER = 1024 * 1024;

/** Room that all spool files of one delta share. */
export class DiskBudget {
  #left: number;
  readonly #limit: number;

  constructor(bytes: number) {
    this.#left = bytes;
    this.#limit = bytes;
  }

  /** Throws LIMIT_EXCEEDED when that much is not left. */
  take(bytes: number): void {
    this.#left -= bytes;
    if (this.#left >= 0) return;
    throw new SnapgateError('LIMIT_EXCEEDED', 'the images take more temporary room than allowed', {
      hint: `The limit is ${this.#limit} bytes; allow more, or make the delta elsewhere.`,
    });
  }
}

/** A temporary file that is written once, from its start on, holes allowed. */
export class SpoolWriter {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #budget: DiskBudget;
  #buffer = Buffer.allocUnsafe(BUFFER);
  #used = 0;
  /** Where the buffer's bytes go. */
  #start = 0;

  private constructor(path: string, file: FileHandle, budget: DiskBudget) {
    this.path = path;
    this.#file = file;
    this.#budget = budget;
  }

  static async create(path: string, budget: DiskBudget): Promise<SpoolWriter> {
    return new SpoolWriter(path, await open(path, 'wx', 0o600), budget);
  }

  /** Where the next byte goes. */
  get position(): number {
    return this.#start + this.#used;
  }

  /** Copies bytes to the end. */
  async write(bytes: Uint8Array): Promise<void> {
    this.#budget.take(bytes.length);
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + BUFFER - this.#used);
      this.#buffer.set(part, this.#used);
      this.#used += part.length;
      at += part.length;
      if (this.#used === BUFFER) await this.#flush();
    }
  }

  /** Goes on at a later position; what is between reads as zeros and takes no room. */
  async skipTo(position: number): Promise<void> {
    if (position === this.position) return;
    await this.#flush();
    this.#start = position;
  }

  /** Writes what is held and closes the file. */
  async close(): Promise<void> {
    try {
      await this.#flush();
      await this.#file.truncate(this.#start);
    } finally {
      await this.#file.close();
    }
  }

  /** Closes the file, whatever became of it. */
  async abandon(): Promise<void> {
    await this.#file.close().catch(() => {});
  }

  async #flush(): Promise<void> {
    for (let at = 0; at < this.#used; ) {
      const part = this.#buffer.subarray(at, this.#used);
      at += (await this.#file.write(part, 0, part.length, this.#start + at)).bytesWritten;
    }
    this.#start += this.#used;
    this.#used = 0;
  }
}

/** A spool file that is read at any place. */
export class SpoolFile {
  readonly path: string;
  readonly size: number;
  readonly read: ReadRange;
  readonly #fd: number;

  constructor(path: string) {
    this.path = path;
    this.#fd = openSync(path, 'r');
    this.read = rangesOf(this.#fd, path);
    this.size = fstatSync(this.#fd).size;
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** Reads a temporary file that is open. */
export function rangesOf(fd: number, path: string): ReadRange {
  return (target, offset) => {
    for (let at = 0; at < target.length; ) {
      const count = readSync(fd, target, at, target.length - at, offset + at);
      if (count === 0) {
        throw new SnapgateError('INTERNAL', 'a temporary file is shorter than it was written', {
          where: path,
        });
      }
      at += count;
    }
  };
}

/** A stretch of what is read, as a source of its own. Bytes. */
export function stretchSource(
  read: ReadRange,
  { offset, size }: { readonly offset: number; readonly size: number },
): ByteSource {
  return {
    size,
    read(target, at) {
      const count = Math.max(0, Math.min(target.length, size - at));
      if (count > 0) read(target.subarray(0, count), offset + at);
      return count;
    },
  };
}
