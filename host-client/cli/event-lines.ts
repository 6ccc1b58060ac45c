import { createWriteStream, fstatSync, type WriteStream } from 'node:fs';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { Step, UpdateEvents } from '../update/events.ts';

/** Milliseconds between two lines of progress. */
const PROGRESS_MS = 500;
/** Bytes that may wait for a reader; beyond, lines of progress are left out. */
const MAX_WAITING = 64 * 1024;

/** What every line has: the version of its form, when it was written, and the kind of event. */
type Line = { readonly event: 'step' | 'progress' | 'notice' | 'end' } & Readonly<
  Record<string, unknown>
>;

/**
 * Writes what happens as JSON, one object a line, for a program that listens: `step`, `progress`,
 * `notice`, and at last `end`, with `error` when it went wrong. A reader that is slow or gone does not
 * slow down what is told of.
 */
export class EventLines implements UpdateEvents {
  readonly #write: (line: string) => void;
  readonly #waiting: () => number;
  readonly #now: () => number;
  #step: Step | undefined;
  #shownAt = Number.NEGATIVE_INFINITY;

  /** `waiting` gives the bytes that are not read yet; `now` is a clock in milliseconds. */
  constructor(
    write: (line: string) => void,
    waiting: () => number = () => 0,
    now: () => number = () => performance.now(),
  ) {
    this.#write = write;
    this.#waiting = waiting;
    this.#now = now;
  }

  /** Writes to an open file descriptor. Throws USAGE when it is none. */
  static toDescriptor(text: string): EventLines {
    const stream = openDescriptor(text);
    let isGone = false;
    stream.on('error', () => {
      isGone = true;
    });
    const write = (line: string) => void (isGone || stream.write(line));
    return new EventLines(write, () => stream.writableLength);
  }

  step(step: Step, detail?: string): void {
    this.#step = step;
    this.#shownAt = Number.NEGATIVE_INFINITY;
    this.#line({ event: 'step', step, ...(detail === undefined ? {} : { detail }) });
  }

  progress(done: number, total: number, unit: 'bytes' | 'parts' = 'bytes'): void {
    const now = this.#now();
    const isDue = done >= total || now - this.#shownAt >= PROGRESS_MS;
    if (!isDue || this.#waiting() > MAX_WAITING) return;
    this.#shownAt = now;
    this.#line({ event: 'progress', step: this.#step, done, total, unit });
  }

  notice(message: string): void {
    this.#line({ event: 'notice', message });
  }

  /** The last line. */
  end(thrown?: unknown): void {
    const error = thrown === undefined ? {} : { error: toSnapgateError(thrown) };
    this.#line({ event: 'end', ...error });
  }

  #line(line: Line): void {
    this.#write(`${JSON.stringify({ version: 1, time: new Date().toISOString(), ...line })}\n`);
  }
}

function openDescriptor(text: string): WriteStream {
  const fd = /^\d{1,9}$/.test(text) ? Number(text) : -1;
  try {
    fstatSync(fd);
  } catch (cause) {
    throw new SnapgateError('USAGE', `--progress-fd ${text}: no such file descriptor is open`, {
      hint: 'Open it for the command, as in: snaphost update --progress-fd 3 3>events.jsonl',
      cause,
    });
  }
  return createWriteStream('', { fd, autoClose: false });
}
