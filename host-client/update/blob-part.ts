import type { Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { copyFile, type FileHandle, open, rm, stat } from 'node:fs/promises';
import { type Digest, digestFromHex } from '../../shared/digest.ts';
import { type HashedFile, hashFile } from '../system/files.ts';

/** As `a`, but through no link that somebody left in a part's place. */
const APPEND = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;

/** A file of a blob that is on its way: what is there of it, and the digest so far. */
export class BlobPart {
  #path: string;
  #file: FileHandle;
  readonly #hash: Hash;
  size: number;

  private constructor(path: string, file: FileHandle, { hash, size }: HashedFile) {
    this.#path = path;
    this.#file = file;
    this.#hash = hash;
    this.size = size;
  }

  /** Opens what is there, and makes the file if there is none. */
  static async open(path: string): Promise<BlobPart> {
    const file = await openPart(path);
    try {
      return new BlobPart(path, file, await hashFile(path));
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  get path(): string {
    return this.#path;
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      done += (await this.#file.write(bytes, done)).bytesWritten;
    }
    this.#hash.update(bytes);
    this.size += bytes.length;
  }

  /** The digest of all of it; nothing can be appended any more. */
  digest(): Digest {
    return digestFromHex(this.#hash.digest('hex'));
  }

  /** Goes on in another place, whatever was there. */
  async moveTo(path: string): Promise<void> {
    await this.#file.close();
    await moveFile(this.#path, path);
    this.#path = path;
    this.#file = await openPart(path);
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

function openPart(path: string): Promise<FileHandle> {
  return open(path, APPEND, 0o600);
}

/** The digest of a file's content. */
export async function digestOfFile(path: string): Promise<Digest> {
  return digestFromHex((await hashFile(path)).hash.digest('hex'));
}

/** Moves a file to another file system, through no link in its place there. */
export async function moveFile(from: string, to: string): Promise<void> {
  await rm(to, { force: true });
  await copyFile(from, to, constants.COPYFILE_EXCL);
  await rm(from);
}

/** The size of a file; undefined when there is none. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).size;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw thrown;
  }
}
