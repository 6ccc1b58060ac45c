import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import { FileLock } from '../system/file-lock.ts';
import { removeHalfWritten } from '../system/files.ts';
import { readRecord, writeHint, writeRecord } from '../system/records.ts';
import { keepBuffersSmall, letGoOfCode } from '../system/tidy-memory.ts';
import { type Distrust, distrustSchema } from './encoders.ts';
import { lineRateSchema, nextLineRate } from './estimate.ts';
import { type Attempt, attemptSchema, type Seen, seenSchema } from './report.ts';

/** The client's folder for what it must remember. */
export class StateFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  get downloads(): string {
    return join(this.path, 'downloads');
  }

  /**
   * Makes sure that no other snaphost changes anything while `action` runs. The lock ends with the
   * process, however that ends. Throws ALREADY_RUNNING.
   */
  async exclusively<T>(action: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    await mkdir(this.path, { recursive: true, mode: 0o700 });
    const path = join(this.path, 'lock');
    const busy = () =>
      new SnapgateError('ALREADY_RUNNING', 'another snaphost is at work on this machine', {
        where: path,
        hint: 'Wait until it has ended; snaphost status shows how that went.',
      });
    using _lock = await FileLock.acquire(path, { timeoutMs: 0, signal, busy });
    keepBuffersSmall();
    letGoOfCode();
    await removeHalfWritten(this.path);
    return await action();
  }

  /** What the tag named the last time; a damaged record is as good as none. */
  async seen(): Promise<Seen | undefined> {
    return readRecord(this.#file('seen'), seenSchema).catch(() => undefined);
  }

  async remember(seen: Seen): Promise<void> {
    await writeRecord(this.#file('seen'), seen);
  }

  async lastAttempt(): Promise<Attempt | undefined> {
    return readRecord(this.#file('last-attempt'), attemptSchema).catch(() => undefined);
  }

  /** The rate of the line in bytes a second, as earlier downloads had it. */
  async lineRate(): Promise<number | undefined> {
    const found = await readRecord(this.#file('line'), lineRateSchema).catch(() => undefined);
    return found?.bytesPerSecond;
  }

  /** Takes in how long a download took. */
  async measureLine(bytes: number, seconds: number): Promise<void> {
    const known = await this.lineRate();
    const bytesPerSecond = nextLineRate(known, bytes, seconds);
    if (bytesPerSecond === undefined || bytesPerSecond === known) return;
    await writeHint(this.#file('line'), { bytesPerSecond });
  }

  /** Encoders that made other bytes than they must. */
  async distrust(): Promise<Distrust | undefined> {
    return readRecord(this.#file('encoders'), distrustSchema).catch(() => undefined);
  }

  /** Undefined makes up for an earlier record. */
  async recordDistrust(distrust: Distrust | undefined): Promise<void> {
    if (distrust === undefined) await rm(this.#file('encoders'), { force: true });
    else await writeRecord(this.#file('encoders'), distrust);
  }

  async recordAttempt(attempt: Attempt): Promise<void> {
    await writeRecord(this.#file('last-attempt'), attempt);
  }

  #file(name: string): string {
    return join(this.path, `${name}.json`);
  }
}
