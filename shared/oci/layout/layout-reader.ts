import { type Digest, digestHex, isDigest, sha256 } from '../../digest.ts';
import { SnapgateError } from '../../errors.ts';
import type { BlobReadOptions, ContentReader, StoredManifest } from '../content.ts';
import {
  type Descriptor,
  type Index,
  MAX_MANIFEST_BYTES,
  manifestMediaType,
  parseIndex,
  parseManifest,
} from '../manifest.ts';
import { isIndexType, OCI_INDEX, OCI_MANIFEST } from '../media-types.ts';
import { type LayoutFiles, readRange, readSmallFile } from './layout-files.ts';
import { defaultEntry, EMPTY_INDEX, entryTag, findEntry } from './layout-index.ts';
import { verifyStream } from './verify-stream.ts';

/** Path of a blob inside a layout. */
export function blobPath(digest: Digest): string {
  return `blobs/sha256/${digestHex(digest)}`;
}

/** Reads an OCI image layout (OCI image specification, "Image Layout") from a folder or an archive. */
export class LayoutReader implements ContentReader {
  readonly name: string;
  readonly #files: LayoutFiles;

  constructor(files: LayoutFiles) {
    this.name = files.name;
    this.#files = files;
  }

  /** The parsed index.json; an empty one when there is none. Throws MANIFEST_INVALID. */
  async readIndex(): Promise<Index> {
    const bytes = await readSmallFile(this.#files, 'index.json', MAX_MANIFEST_BYTES);
    return bytes === undefined ? EMPTY_INDEX : parseIndex(bytes);
  }

  async getManifest(tagOrDigest: string): Promise<StoredManifest> {
    const entry = findEntry(await this.readIndex(), tagOrDigest);
    const digest = entry?.digest ?? (isDigest(tagOrDigest) ? tagOrDigest : undefined);
    if (digest === undefined) throw this.#unknown(tagOrDigest);
    return this.#readManifest(digest, entry?.mediaType ?? '');
  }

  async #readManifest(digest: Digest, stated: string): Promise<StoredManifest> {
    const bytes = await readSmallFile(this.#files, blobPath(digest), MAX_MANIFEST_BYTES);
    if (bytes === undefined) throw this.#unknown(digest);
    if (sha256(bytes) !== digest) {
      throw new SnapgateError('DIGEST_INVALID', `manifest ${digest} has other content`, {
        where: this.name,
      });
    }
    const mediaType = manifestMediaType(bytes, stated) || guessMediaType(bytes);
    return { digest, mediaType, bytes };
  }

  #unknown(tagOrDigest: string): SnapgateError {
    return new SnapgateError('MANIFEST_UNKNOWN', `no such manifest: ${tagOrDigest}`, {
      where: this.name,
    });
  }

  async *openBlob(
    blob: Pick<Descriptor, 'digest' | 'size'>,
    options: BlobReadOptions = {},
  ): AsyncGenerator<Uint8Array> {
    const range = await this.#files.find(blobPath(blob.digest));
    if (range === undefined) {
      throw new SnapgateError('BLOB_UNKNOWN', `no such blob: ${blob.digest}`, { where: this.name });
    }
    if (range.size !== blob.size) {
      await range.close();
      throw new SnapgateError('SIZE_INVALID', `blob ${blob.digest} is not ${blob.size} bytes`, {
        where: this.name,
      });
    }
    const body = readRange(range, options.offset ?? 0, options.signal);
    yield* (options.offset ?? 0) > 0 ? body : verifyStream(body, blob, this.name);
  }

  async hasBlob(digest: Digest): Promise<boolean> {
    const range = await this.#files.find(blobPath(digest));
    await range?.close();
    return range !== undefined;
  }

  async listTags(): Promise<string[]> {
    const tags = (await this.readIndex()).manifests.map(entryTag);
    return [...new Set(tags.filter((tag) => tag !== undefined))];
  }

  /** Every entry of index.json that names `subject`, and what its fallback tag lists. */
  async listReferrers(subject: Digest): Promise<Descriptor[]> {
    const index = await this.readIndex();
    const found = new Map<Digest, Descriptor>();
    const fallback = findEntry(index, subject.replace(':', '-'));
    const candidates = [...index.manifests];
    if (fallback !== undefined) {
      const { bytes, mediaType } = await this.#readManifest(fallback.digest, fallback.mediaType);
      if (isIndexType(mediaType)) candidates.push(...parseIndex(bytes).manifests);
    }
    for (const { digest, mediaType } of candidates) {
      if (found.has(digest)) continue;
      const descriptor = await this.#asReferrer(digest, mediaType, subject);
      if (descriptor !== undefined) found.set(digest, descriptor);
    }
    return [...found.values()];
  }

  /** The descriptor a referrers answer shows for a manifest (distribution specification 1.1). */
  async #asReferrer(
    digest: Digest,
    stated: string,
    subject: Digest,
  ): Promise<Descriptor | undefined> {
    if (!(await this.hasBlob(digest))) return undefined;
    const { bytes, mediaType } = await this.#readManifest(digest, stated);
    const parsed = isIndexType(mediaType) ? parseIndex(bytes) : parseManifest(bytes);
    if (parsed.subject?.digest !== subject) return undefined;
    const configType = 'config' in parsed ? parsed.config?.mediaType : undefined;
    const artifactType = parsed.artifactType ?? configType;
    const { annotations } = parsed;
    return {
      ...{ mediaType, digest, size: bytes.byteLength },
      ...(artifactType === undefined ? {} : { artifactType }),
      ...(annotations === undefined ? {} : { annotations }),
    };
  }

  /** The digest of the image meant when no tag is given. Throws MANIFEST_UNKNOWN, REFERENCE_INVALID. */
  async defaultDigest(): Promise<Digest> {
    const index = await this.readIndex();
    const subjects = new Map<Digest, Digest | undefined>();
    for (const entry of index.manifests) {
      const { bytes, mediaType } = await this.#readManifest(entry.digest, entry.mediaType);
      const parsed = isIndexType(mediaType) ? parseIndex(bytes) : parseManifest(bytes);
      subjects.set(entry.digest, parsed.subject?.digest);
    }
    return defaultEntry(index, subjects, this.name).digest;
  }
}

/** Old manifests carry no media type inside; what they hold tells an index from a manifest. */
function guessMediaType(bytes: Uint8Array): string {
  const json = JSON.parse(new TextDecoder().decode(bytes)) as object;
  return 'manifests' in json ? OCI_INDEX : OCI_MANIFEST;
}
