import { createHash, type Hash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Digest, digestFromHex, digestHex } from '../../shared/digest.ts';
import { type ErrorCode, SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import { backOffSeconds } from '../line/back-off.ts';
import { syncFolder } from '../system/files.ts';
import { buffersPassed, tidily } from '../system/tidy-memory.ts';

type Blob = Pick<Descriptor, 'digest' | 'size'>;

/** How a blob is fetched. */
export type FetchOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Called with the number of bytes after each piece that came. */
  readonly onBytes?: (bytes: number) => void;
  /** Passes the body on as the line's limits allow. */
  readonly pass?: (body: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;
  /** Pauses before another try; tests replace it. Milliseconds. */
  readonly pause?: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
};

const PART = '.part';
/** As `a`, but through no link that somebody left in a part's place. */
const APPEND = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;
/** Bytes of a file that are read at once. */
const READ_BYTES = 256 * 1024;
/** How often in a row nothing comes before the blob is given up for now. */
const TRIES = 5;
const BACK_OFF = { first: 1, longest: 30 };
/** Who asks to be left alone for longer, in seconds, is asked by the next run. */
const LONGEST_WAIT = 300;
/** A connection that brought less does not count as one that works. */
const WORTH_BYTES = 64 * 1024;
const LINE_ERRORS: readonly ErrorCode[] = [
  ...(['UPSTREAM_UNREACHABLE', 'UPSTREAM_TIMEOUT', 'UPSTREAM_FAILED'] as const),
  ...(['TOOMANYREQUESTS', 'SIZE_INVALID'] as const),
];

/**
 * The folder of downloaded blobs, each in a file named by its digest. What is on its way has `.part`
 * at the end and is resumed at its last byte, whatever interrupted it; only what has its size and
 * digest loses it. Nothing waits for the disk: what a crash has left is checked before it is used, and
 * what was used before the system wrote it out never needs to be written.
 */
export class Downloads {
  readonly folder: string;
  /** Blobs that were found right by this object. */
  readonly #checked = new Set<Digest>();

  constructor(folder: string) {
    this.folder = folder;
  }

  /** Where a blob is, once it is there. */
  path(blob: Pick<Blob, 'digest'>): string {
    return join(this.folder, digestHex(blob.digest));
  }

  /** Whether a blob is there whole. */
  async has(blob: Blob): Promise<boolean> {
    return (await sizeOf(this.path(blob))) === blob.size;
  }

  /** Bytes that are still to come for these blobs. */
  async missingBytes(blobs: readonly Blob[]): Promise<number> {
    let missing = 0;
    for (const blob of blobs) {
      if (await this.has(blob)) continue;
      const part = (await sizeOf(`${this.path(blob)}${PART}`)) ?? 0;
      missing += Math.max(0, blob.size - part);
    }
    return missing;
  }

  /** Reads a blob that is there. */
  read(blob: Pick<Blob, 'digest'>): AsyncIterable<Uint8Array> {
    const file = createReadStream(this.path(blob), { highWaterMark: READ_BYTES });
    return tidily(file, (chunk: Uint8Array) => chunk.length);
  }

  /**
   * Fetches a blob, or the rest of it. A connection that breaks is tried again while it brings
   * something. What turns out not to be the blob is deleted. Throws SIZE_INVALID, DIGEST_INVALID,
   * NO_SPACE, CANCELLED and what the registry answers.
   */
  async fetch(source: ContentReader, blob: Blob, options: FetchOptions = {}): Promise<void> {
    if (await this.#isRight(blob)) return;
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    const part = `${this.path(blob)}${PART}`;
    const resumedAt = (await sizeOf(part)) ?? 0;
    try {
      await this.#fetchPart(source, blob, part, options);
    } catch (thrown) {
      const error = toSnapgateError(thrown);
      if (!isLie(error)) throw error;
      await rm(part, { force: true });
      // What an earlier run left may have been damaged by the crash that ended it.
      if (resumedAt === 0) throw error;
      await this.#fetchPart(source, blob, part, options).catch(async (again) => {
        if (isLie(toSnapgateError(again))) await rm(part, { force: true });
        throw again;
      });
    }
    await rename(part, this.path(blob));
    this.#checked.add(blob.digest);
  }

  /** Whether a blob is there and right; one that is not goes. */
  async #isRight(blob: Blob): Promise<boolean> {
    if (!(await this.has(blob))) return false;
    if (this.#checked.has(blob.digest)) return true;
    const { hash } = await readPart(this.path(blob), blob);
    const isRight = digestFromHex(hash.digest('hex')) === blob.digest;
    if (isRight) this.#checked.add(blob.digest);
    else await rm(this.path(blob), { force: true });
    return isRight;
  }

  /** Removes a blob; the next sync of its file system, or {@link Downloads.remove}, makes that durable. */
  async drop(blob: Pick<Blob, 'digest'>): Promise<void> {
    await rm(this.path(blob), { force: true });
  }

  /** Removes blobs, whole or not, for good; says how many bytes that freed. */
  async remove(which: (digest: Digest) => boolean): Promise<number> {
    let freed = 0;
    const names = await readdir(this.folder).catch(() => undefined);
    if (names === undefined) return 0;
    for (const name of names) {
      const hex = name.endsWith(PART) ? name.slice(0, -PART.length) : name;
      if (!/^[0-9a-f]{64}$/.test(hex) || !which(digestFromHex(hex))) continue;
      const path = join(this.folder, name);
      freed += (await sizeOf(path)) ?? 0;
      await rm(path, { force: true });
    }
    // What is noted after this must not be on the disk without it.
    await syncFolder(this.folder);
    return freed;
  }

  async #fetchPart(
    source: ContentReader,
    blob: Blob,
    part: string,
    options: FetchOptions,
  ): Promise<void> {
    const file = await open(part, APPEND, 0o600);
    try {
      const state = await readPart(part, blob);
      if (state.size > blob.size) throw tooLong(blob, source.name);
      for (let failures: Failures = { count: 0 }; state.size < blob.size; ) {
        const before = state.size;
        try {
          await receive(source, blob, file, state, options);
        } catch (thrown) {
          const error = toSnapgateError(thrown);
          failures = addFailure(failures, error, state.size - before);
          await wait(failures.count, error.retryAfter, options);
        }
      }
      if (digestFromHex(state.hash.digest('hex')) !== blob.digest) {
        throw new SnapgateError('DIGEST_INVALID', `blob ${blob.digest} has another digest`, {
          where: source.name,
          hint: 'The registry or something before it changed the blob. It was deleted.',
        });
      }
    } finally {
      await file.close();
    }
  }
}

/** How much of a blob is there, and the digest so far. */
type PartState = { size: number; readonly hash: Hash };

async function readPart(path: string, blob: Blob): Promise<PartState> {
  const state: PartState = { size: 0, hash: createHash('sha256') };
  if (((await sizeOf(path)) ?? 0) > blob.size) return { ...state, size: blob.size + 1 };
  for await (const chunk of createReadStream(path, { highWaterMark: READ_BYTES })) {
    state.hash.update(chunk);
    state.size += chunk.length;
  }
  return state;
}

async function receive(
  source: ContentReader,
  blob: Blob,
  file: FileHandle,
  state: PartState,
  { signal, onBytes, pass = (body) => body }: FetchOptions,
): Promise<void> {
  const from = { offset: state.size, ...(signal === undefined ? {} : { signal }) };
  for await (const chunk of pass(source.openBlob(blob, from))) {
    await writeAll(file, chunk);
    state.hash.update(chunk);
    state.size += chunk.length;
    onBytes?.(chunk.length);
    buffersPassed(chunk.length);
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    done += (await file.write(bytes, done)).bytesWritten;
  }
}

/** Failures in a row, and the one that tells most. */
type Failures = { readonly count: number; readonly short?: SnapgateError };

/**
 * Adds a failure. Throws when it is one too many, or no failure of the line. A body that ends too
 * early is a broken line at first, and a lie when nothing comes after it.
 */
function addFailure({ count, short }: Failures, error: SnapgateError, gained: number): Failures {
  if (!LINE_ERRORS.includes(error.code)) throw error;
  if ((error.retryAfter ?? 0) > LONGEST_WAIT) throw error;
  const isShort = error.code === 'SIZE_INVALID';
  const tells = isShort ? error : gained === 0 ? short : undefined;
  const isAnswered = isShort || error.code === 'UPSTREAM_FAILED';
  if (gained === 0 && isAnswered && tells !== undefined) throw tells;
  const next = gained >= WORTH_BYTES ? 1 : count + 1;
  if (next >= TRIES) throw tells ?? error;
  return { count: next, ...(tells === undefined ? {} : { short: tells }) };
}

async function wait(
  failures: number,
  retryAfter: number | undefined,
  { pause, signal }: FetchOptions,
): Promise<void> {
  const milliseconds = backOffSeconds(failures, BACK_OFF, retryAfter) * 1000;
  if (pause !== undefined) await pause(milliseconds, signal);
  else await sleep(milliseconds, undefined, signal === undefined ? {} : { signal });
}

function isLie({ code }: SnapgateError): boolean {
  return code === 'SIZE_INVALID' || code === 'DIGEST_INVALID';
}

function tooLong(blob: Blob, where: string): SnapgateError {
  return new SnapgateError('SIZE_INVALID', `more than ${blob.size} bytes of ${blob.digest}`, {
    where,
  });
}

async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw thrown;
  }
}
