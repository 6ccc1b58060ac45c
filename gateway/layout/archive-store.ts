import { createReadStream, createWriteStream } from 'node:fs';
import { type FileHandle, mkdtemp, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { pack } from 'tar-stream';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { BlobReadOptions, ContentStore, StoredManifest } from '../../shared/oci/content.ts';
import { archiveFiles } from '../../shared/oci/layout/archive-files.ts';
import { entryTag } from '../../shared/oci/layout/layout-index.ts';
import { LayoutReader } from '../../shared/oci/layout/layout-reader.ts';
import { type Descriptor, parseIndex, parseManifest } from '../../shared/oci/manifest.ts';
import { isIndexType } from '../../shared/oci/media-types.ts';
import { LayoutStore } from './layout-store.ts';
import { syncFolder } from './write-file.ts';

/**
 * An OCI archive: a tar file of an image layout. It is read in place. The first write copies what
 * it held into a folder beside it; `commit` packs that folder and renames the new archive over the
 * old one. Without `commit` nothing changes. `close` removes what is left.
 */
export class ArchiveStore implements ContentStore {
  readonly name: string;
  readonly #path: string;
  readonly #file: FileHandle | undefined;
  readonly #reader: LayoutReader | undefined;
  #staging: Promise<{ dir: string; store: LayoutStore }> | undefined;

  private constructor(path: string, file?: FileHandle, reader?: LayoutReader) {
    this.name = `oci-archive:${path}`;
    this.#path = resolve(path);
    this.#file = file;
    this.#reader = reader;
  }

  /** Opens an existing archive. Throws MANIFEST_UNKNOWN, TAR_INVALID. */
  static async open(path: string): Promise<ArchiveStore> {
    const name = `oci-archive:${path}`;
    if (!(await stat(path).catch(() => undefined))?.isFile()) {
      throw new SnapgateError('MANIFEST_UNKNOWN', 'no such archive', { where: path });
    }
    const file = await open(path, 'r');
    try {
      const reader = new LayoutReader(await archiveFiles(file, (await file.stat()).size, name));
      return new ArchiveStore(path, file, reader);
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
  }

  /** Opens an archive for writing, which may be missing. */
  static async create(path: string): Promise<ArchiveStore> {
    const exists = (await stat(path).catch(() => undefined)) !== undefined;
    return exists ? ArchiveStore.open(path) : new ArchiveStore(path);
  }

  async #forReading(): Promise<LayoutReader> {
    if (this.#staging !== undefined) return (await this.#staging).store;
    if (this.#reader !== undefined) return this.#reader;
    return (await this.#forWriting()) as LayoutReader;
  }

  async #forWriting(): Promise<LayoutStore> {
    this.#staging ??= this.#stage();
    return (await this.#staging).store;
  }

  async #stage(): Promise<{ dir: string; store: LayoutStore }> {
    const dir = await mkdtemp(`${this.#path}.tmp-`);
    try {
      const store = await LayoutStore.create(dir);
      if (this.#reader !== undefined) await copyLayout(this.#reader, store);
      return { dir, store };
    } catch (thrown) {
      await rm(dir, { recursive: true, force: true });
      throw thrown;
    }
  }

  async getManifest(tagOrDigest: string): Promise<StoredManifest> {
    return (await this.#forReading()).getManifest(tagOrDigest);
  }

  async *openBlob(
    blob: Pick<Descriptor, 'digest' | 'size'>,
    options?: BlobReadOptions,
  ): AsyncGenerator<Uint8Array> {
    yield* (await this.#forReading()).openBlob(blob, options);
  }

  async listReferrers(subject: Digest): Promise<Descriptor[]> {
    return (await this.#forReading()).listReferrers(subject);
  }

  async hasBlob(digest: Digest): Promise<boolean> {
    return (await this.#forReading()).hasBlob(digest);
  }

  async listTags(): Promise<string[]> {
    return (await this.#forReading()).listTags();
  }

  async defaultDigest(): Promise<Digest> {
    return (await this.#forReading()).defaultDigest();
  }

  async putBlob(
    blob: Pick<Descriptor, 'digest' | 'size'>,
    body: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    await (await this.#forWriting()).putBlob(blob, body);
  }

  async putManifest(manifest: StoredManifest, tag?: string): Promise<void> {
    await (await this.#forWriting()).putManifest(manifest, tag);
  }

  /** Writes what was put; does nothing when nothing was. */
  async commit(): Promise<void> {
    if (this.#staging === undefined) return;
    const { dir } = await this.#staging;
    const packed = join(dir, 'archive.tar');
    await packLayout(dir, packed);
    await rename(packed, this.#path);
    await syncFolder(dirname(this.#path));
  }

  async close(): Promise<void> {
    await this.#file?.close();
    const staging = await this.#staging?.catch(() => undefined);
    if (staging !== undefined) await rm(staging.dir, { recursive: true, force: true });
  }
}

/** Copies all that index.json leads to. */
async function copyLayout(from: LayoutReader, to: LayoutStore): Promise<void> {
  const copyManifest = async (digest: string, tag: string | undefined): Promise<void> => {
    const manifest = await from.getManifest(digest);
    if (isIndexType(manifest.mediaType)) {
      for (const child of parseIndex(manifest.bytes).manifests) {
        if (await from.hasBlob(child.digest)) await copyManifest(child.digest, undefined);
      }
    } else {
      const { config, layers } = parseManifest(manifest.bytes);
      for (const blob of [config, ...layers]) {
        // Archives may leave out blobs that the receiver is known to have.
        if (await from.hasBlob(blob.digest)) await to.putBlob(blob, from.openBlob(blob));
      }
    }
    await to.putManifest(manifest, tag);
  };
  for (const entry of (await from.readIndex()).manifests) {
    await copyManifest(entry.digest, entryTag(entry));
  }
}

/** Packs a layout folder into a tar file whose bytes depend on nothing but the content. */
async function packLayout(dir: string, target: string): Promise<void> {
  const archive = pack();
  const written = pipeline(archive, createWriteStream(target, { flags: 'wx', flush: true }));
  const add = async (name: string) => {
    const { size } = await stat(join(dir, name));
    const entry = archive.entry({ name, size, mode: 0o644, mtime: new Date(0) });
    await pipeline(createReadStream(join(dir, name)), entry);
  };
  const feed = async () => {
    for (const name of ['oci-layout', 'index.json']) await add(name);
    const blobs = (await readdir(join(dir, 'blobs', 'sha256'))).sort();
    for (const name of blobs) await add(`blobs/sha256/${name}`);
    archive.finalize();
  };
  try {
    await Promise.all([written, feed()]);
  } catch (thrown) {
    archive.destroy();
    await written.catch(() => {});
    throw thrown;
  }
}
