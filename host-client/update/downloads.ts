import { createReadStream } from 'node:fs';
import { mkdir, readdir, rename, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestFromHex, digestHex } from '../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import { syncFolder } from '../system/files.ts';
import { tidily } from '../system/tidy-memory.ts';
import { BlobPart, digestOfFile, moveFile, sizeOf } from './blob-part.ts';
import { type Blob, type FetchOptions, isLie, receiveBlob } from './receive-blob.ts';

const PART = '.part';
/** Bytes of a file that are read at once. */
const READ_BYTES = 256 * 1024;
/** `f_type` of a file system in memory in statfs(2). */
const TMPFS_MAGIC = 0x01021994;
/** Of the memory that is free, a blob may take one part in so many. */
const MEMORY_SHARE = 8;
/** A restart of the machine may cost what came in so much time, in milliseconds. */
const AT_RISK_MS = 30_000;

/**
 * The folder of downloaded blobs, each in a file named by its digest. What is on its way has `.part`
 * at the end and is resumed at its last byte, whatever interrupted it; only what has its size and
 * digest loses it. Nothing waits for the disk: what a crash has left is checked before it is used.
 *
 * What a run brings in its first half minute stays in memory, where there is room, and is mostly used
 * and gone before it would have been worth a write. The rest goes to the disk as it comes, and so
 * does what is left when a download is interrupted.
 */
export class Downloads {
  readonly folder: string;
  readonly #memory: string | undefined;
  /** Which folder a blob was found in. */
  readonly #found = new Map<Digest, string>();
  /** Blobs that were found right by this object. */
  readonly #checked = new Set<Digest>();
  readonly #now: () => number;
  /** The time from which on nothing new is kept in memory. */
  #durableFrom: number | undefined;

  /**
   * `memory` is a folder that goes when the machine restarts; it is used where it is on a tmpfs. `now`
   * is a clock in milliseconds.
   */
  constructor(folder: string, memory?: string, now: () => number = () => performance.now()) {
    this.folder = folder;
    this.#memory = memory;
    this.#now = now;
  }

  get #folders(): string[] {
    return this.#memory === undefined ? [this.folder] : [this.folder, this.#memory];
  }

  /** Where a blob is, once it is there. */
  path({ digest }: Pick<Blob, 'digest'>): string {
    return join(this.#found.get(digest) ?? this.folder, digestHex(digest));
  }

  /** Whether a blob is there whole. */
  async has({ digest, size }: Blob): Promise<boolean> {
    for (const folder of this.#folders) {
      if ((await sizeOf(join(folder, digestHex(digest)))) !== size) continue;
      this.#found.set(digest, folder);
      return true;
    }
    return false;
  }

  /** Bytes that are still to come for these blobs. */
  async missingBytes(blobs: readonly Blob[]): Promise<number> {
    let missing = 0;
    for (const blob of blobs) {
      if (await this.has(blob)) continue;
      const parts = await Promise.all(this.#folders.map((folder) => sizeOf(partOf(folder, blob))));
      missing += Math.max(0, blob.size - Math.max(...parts.map((size) => size ?? 0)));
    }
    return missing;
  }

  /** Reads a blob that is there. */
  read(blob: Pick<Blob, 'digest'>): AsyncIterable<Uint8Array> {
    const file = createReadStream(this.path(blob), { highWaterMark: READ_BYTES });
    return tidily(file, (chunk: Uint8Array) => chunk.length);
  }

  /**
   * Fetches a blob, or the rest of it. What turns out not to be the blob is deleted. Throws as
   * {@link receiveBlob}.
   */
  async fetch(source: ContentReader, blob: Blob, options: FetchOptions = {}): Promise<void> {
    if (await this.#isRight(blob)) return;
    this.#durableFrom ??= this.#now() + AT_RISK_MS;
    await mkdir(this.folder, { recursive: true, mode: 0o700 });
    await this.#keepPart(blob);
    const resumedAt = (await sizeOf(partOf(this.folder, blob))) ?? 0;
    try {
      await this.#fetchPart(source, blob, options);
    } catch (thrown) {
      // What an earlier run left may have been damaged by the crash that ended it.
      if (resumedAt === 0 || !isLie(toSnapgateError(thrown))) throw thrown;
      await this.#fetchPart(source, blob, options);
    }
    this.#checked.add(blob.digest);
  }

  /** Whether a blob is there and right; one that is not goes. */
  async #isRight(blob: Blob): Promise<boolean> {
    if (!(await this.has(blob))) return false;
    if (this.#checked.has(blob.digest)) return true;
    if ((await digestOfFile(this.path(blob))) === blob.digest) {
      this.#checked.add(blob.digest);
      return true;
    }
    await rm(this.path(blob), { force: true });
    return false;
  }

  /** What was on its way into memory when a run was cut off goes on on the disk. */
  async #keepPart(blob: Blob): Promise<void> {
    if (this.#memory === undefined) return;
    const part = partOf(this.#memory, blob);
    if ((await sizeOf(part)) !== undefined) await moveFile(part, partOf(this.folder, blob));
  }

  async #fetchPart(source: ContentReader, blob: Blob, options: FetchOptions): Promise<void> {
    const onDisk = partOf(this.folder, blob);
    const folder = await this.#folderFor(blob);
    const part = await openPart(partOf(folder, blob), source, blob);
    const settle = async () => {
      if (part.path !== onDisk) await part.moveTo(onDisk);
    };
    const onPiece = () => (this.#isLate ? settle() : undefined);
    try {
      await receiveBlob(source, blob, part, options, onPiece);
    } catch (thrown) {
      if (isLie(toSnapgateError(thrown))) await rm(part.path, { force: true });
      else await settle();
      throw thrown;
    } finally {
      await part.close();
    }
    const place = part.path === onDisk ? this.folder : folder;
    this.#found.set(blob.digest, place);
    await rename(part.path, this.path(blob));
  }

  get #isLate(): boolean {
    return this.#now() > (this.#durableFrom ?? 0);
  }

  /** Where a blob goes at first: into memory when it is new, fits, and there is time. */
  async #folderFor(blob: Blob): Promise<string> {
    const memory = this.#memory;
    const isBegun = (await sizeOf(partOf(this.folder, blob))) !== undefined;
    if (memory === undefined || isBegun || this.#isLate) return this.folder;
    if (blob.size > process.availableMemory() / MEMORY_SHARE) return this.folder;
    await mkdir(memory, { recursive: true, mode: 0o700 });
    const { type, bavail, bsize } = await statfs(memory);
    return type === TMPFS_MAGIC && blob.size <= (bavail * bsize) / 2 ? memory : this.folder;
  }

  /** Brings to the disk what is in memory, for a later run. */
  async keep(): Promise<void> {
    for (const [digest, folder] of this.#found) {
      if (folder === this.folder) continue;
      await moveFile(this.path({ digest }), join(this.folder, digestHex(digest)));
      this.#found.set(digest, this.folder);
    }
  }

  /** Removes a blob; the next sync of its file system, or {@link Downloads.remove}, makes that durable. */
  async drop(blob: Pick<Blob, 'digest'>): Promise<void> {
    await rm(this.path(blob), { force: true });
    this.#found.delete(blob.digest);
  }

  /** Removes blobs, whole or not, for good; says how many bytes that freed. */
  async remove(which: (digest: Digest) => boolean): Promise<number> {
    let freed = 0;
    for (const folder of this.#folders) {
      const names = await readdir(folder).catch(() => undefined);
      if (names === undefined) continue;
      for (const name of names) freed += await removeFrom(folder, name, which);
      // What is noted after this must not be on the disk without it.
      await syncFolder(folder);
    }
    for (const digest of this.#found.keys()) if (which(digest)) this.#found.delete(digest);
    return freed;
  }
}

function partOf(folder: string, { digest }: Pick<Blob, 'digest'>): string {
  return join(folder, `${digestHex(digest)}${PART}`);
}

async function openPart(path: string, source: ContentReader, blob: Blob): Promise<BlobPart> {
  if (((await sizeOf(path)) ?? 0) <= blob.size) return BlobPart.open(path);
  await rm(path, { force: true });
  throw new SnapgateError('SIZE_INVALID', `more than ${blob.size} bytes of ${blob.digest}`, {
    where: source.name,
  });
}

async function removeFrom(
  folder: string,
  name: string,
  which: (digest: Digest) => boolean,
): Promise<number> {
  const hex = name.endsWith(PART) ? name.slice(0, -PART.length) : name;
  if (!/^[0-9a-f]{64}$/.test(hex) || !which(digestFromHex(hex))) return 0;
  const path = join(folder, name);
  const size = (await sizeOf(path)) ?? 0;
  await rm(path, { force: true });
  return size;
}
