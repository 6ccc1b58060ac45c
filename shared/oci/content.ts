import type { Digest } from '../digest.ts';
import type { Descriptor } from './manifest.ts';

/** A manifest or index with its exact bytes; `digest` is the sha256 of `bytes`. */
export type StoredManifest = {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
};

/** Options of a blob read. */
export type BlobReadOptions = {
  /** First byte wanted; the digest is then not checked, as the start is missing. */
  readonly offset?: number;
  readonly signal?: AbortSignal;
};

/**
 * Something that holds the images of one repository: a registry, an OCI layout folder, an archive.
 * Whatever comes out of it is untrusted, but it is what its digest says: manifests and blobs are
 * verified while they are read.
 */
export type ContentReader = {
  /** Human-readable name, without credentials; used as `where` of errors. */
  readonly name: string;
  /** Reads a manifest or index by tag or digest. Throws MANIFEST_UNKNOWN, DIGEST_INVALID. */
  getManifest(tagOrDigest: string, signal?: AbortSignal): Promise<StoredManifest>;
  /**
   * Streams a blob. A body whose size or digest differs from the descriptor's ends in SIZE_INVALID
   * or DIGEST_INVALID, at the latest at its end; no more than `size` bytes are ever yielded.
   * Throws BLOB_UNKNOWN.
   */
  openBlob(
    blob: Pick<Descriptor, 'digest' | 'size'>,
    options?: BlobReadOptions,
  ): AsyncIterable<Uint8Array>;
  /**
   * The descriptors that refer to `subject`, from the referrers API or the tag fallback. Their
   * `artifactType` and annotations come from an index that others may write wrongly: fetch each
   * manifest before relying on them.
   */
  listReferrers(subject: Digest, signal?: AbortSignal): Promise<Descriptor[]>;
};

/** Something that images can be written to. Writing what is there already does nothing. */
export type ContentWriter = {
  hasBlob(digest: Digest): Promise<boolean>;
  putBlob(
    blob: Pick<Descriptor, 'digest' | 'size'>,
    body: AsyncIterable<Uint8Array>,
  ): Promise<void>;
  /** Stores a manifest under its digest and, when given, a tag; updates the referrers fallback. */
  putManifest(manifest: StoredManifest, tag?: string): Promise<void>;
  listTags(): Promise<string[]>;
};

/** A place that can be read and written. */
export type ContentStore = ContentReader & ContentWriter;
