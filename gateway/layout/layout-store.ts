import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestFromHex, sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentStore, StoredManifest } from '../../shared/oci/content.ts';
import { withEntry } from '../../shared/oci/layout/layout-index.ts';
import { blobPath, LayoutReader } from '../../shared/oci/layout/layout-reader.ts';
import { verifyStream } from '../../shared/oci/layout/verify-stream.ts';
import {
  type Descriptor,
  type Index,
  MAX_MANIFEST_BYTES,
  parseIndex,
  parseManifest,
} from '../../shared/oci/manifest.ts';
import { isIndexType } from '../../shared/oci/media-types.ts';
import { folderFiles } from './folder-files.ts';
import { writeFileWhole } from './write-file.ts';

const TEMPORARY = '.snapgate-tmp-';
/** A temporary file this old belongs to nobody any more. */
const STALE_MS = 60 * 60 * 1000;

/**
 * An OCI image layout folder that can be read and written. Files appear whole or not at all: each
 * is written beside its place, synced and renamed. One process at a time may write.
 */
export class LayoutStore extends LayoutReader implements ContentStore {
  readonly #dir: string;
  #lastWrite: Promise<unknown> = Promise.resolve();

  private constructor(dir: string) {
    super(folderFiles(dir));
    this.#dir = dir;
  }

  /** Opens a layout folder for reading. Throws MANIFEST_UNKNOWN when it is not one. */
  static async open(dir: string): Promise<LayoutStore> {
    const found = await stat(join(dir, 'oci-layout')).catch(() => undefined);
    if (found?.isFile()) return new LayoutStore(dir);
    throw new SnapgateError('MANIFEST_UNKNOWN', 'not an OCI image layout', {
      where: dir,
      hint: 'A layout is a folder with the files oci-layout and index.json.',
    });
  }

  /** Opens a layout folder for writing; makes it when it is missing or empty. */
  static async create(dir: string): Promise<LayoutStore> {
    await mkdir(join(dir, 'blobs', 'sha256'), { recursive: true });
    const store = new LayoutStore(dir);
    await store.#removeStale();
    if ((await stat(join(dir, 'oci-layout')).catch(() => undefined)) === undefined) {
      await store.#writeFile('oci-layout', [Buffer.from('{"imageLayoutVersion":"1.0.0"}')]);
    }
    if ((await stat(join(dir, 'index.json')).catch(() => undefined)) === undefined) {
      await store.#writeIndex(await store.readIndex());
    }
    return store;
  }

  async putBlob(
    blob: Pick<Descriptor, 'digest' | 'size'>,
    body: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    if (await this.hasBlob(blob.digest)) return;
    await this.#writeFile(blobPath(blob.digest), verifyStream(body, blob, this.name));
  }

  /**
   * Writes a blob whose size shows only at its end, and returns that size in bytes. Throws
   * DIGEST_INVALID, LIMIT_EXCEEDED once it is longer than `limit`.
   */
  async putBlobOfDigest(
    digest: Digest,
    body: AsyncIterable<Uint8Array>,
    limit: number,
  ): Promise<number> {
    let size = 0;
    const hash = createHash('sha256');
    const { name } = this;
    const counted = async function* () {
      for await (const chunk of body) {
        size += chunk.byteLength;
        if (size > limit) {
          throw new SnapgateError('LIMIT_EXCEEDED', `blob is over ${limit} bytes`, { where: name });
        }
        hash.update(chunk);
        yield chunk;
      }
      const actual = digestFromHex(hash.digest('hex'));
      if (actual === digest) return;
      throw new SnapgateError('DIGEST_INVALID', `blob ${digest} has digest ${actual}`, {
        where: name,
      });
    };
    await this.#writeFile(blobPath(digest), counted());
    return size;
  }

  async putManifest(manifest: StoredManifest, tag?: string): Promise<void> {
    const { bytes, digest, mediaType } = manifest;
    if (bytes.byteLength > MAX_MANIFEST_BYTES) {
      throw new SnapgateError('LIMIT_EXCEEDED', 'manifest is too large', { where: this.name });
    }
    if (sha256(bytes) !== digest) {
      throw new SnapgateError('DIGEST_INVALID', `manifest ${digest} has other content`, {
        where: this.name,
      });
    }
    const isIndex = isIndexType(mediaType);
    const children = isIndex ? parseIndex(bytes).manifests.map((entry) => entry.digest) : [];
    const artifactType = isIndex ? undefined : parseManifest(bytes).artifactType;
    const descriptor: Descriptor = {
      ...{ mediaType, digest, size: bytes.byteLength },
      ...(artifactType === undefined ? {} : { artifactType }),
    };
    if (!(await this.hasBlob(digest))) await this.#writeFile(blobPath(digest), [bytes]);
    await this.#inTurn(async () => {
      const before = await this.readIndex();
      const after = withEntry(before, descriptor, tag, children);
      if (after !== before) await this.#writeIndex(after);
    });
  }

  /** Read, change and write of index.json must not overlap. */
  async #inTurn(step: () => Promise<void>): Promise<void> {
    const turn = this.#lastWrite.then(step);
    this.#lastWrite = turn.catch(() => {});
    await turn;
  }

  #writeIndex(index: Index): Promise<void> {
    return this.#writeFile('index.json', [Buffer.from(JSON.stringify(index))]);
  }

  async #writeFile(
    path: string,
    body: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  ): Promise<void> {
    const temporary = join(this.#dir, `${TEMPORARY}${randomBytes(8).toString('hex')}`);
    await writeFileWhole(temporary, join(this.#dir, path), body);
  }

  async #removeStale(): Promise<void> {
    for (const name of await readdir(this.#dir)) {
      if (!name.startsWith(TEMPORARY)) continue;
      const path = join(this.#dir, name);
      const found = await stat(path).catch(() => undefined);
      if (found !== undefined && Date.now() - found.mtimeMs > STALE_MS) {
        await rm(path, { force: true });
      }
    }
  }
}
