import { type Digest, digestHex, isDigest, sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentStore, StoredManifest } from '../../shared/oci/content.ts';
import { type Descriptor, parseManifest } from '../../shared/oci/manifest.ts';
import { isIndexType } from '../../shared/oci/media-types.ts';
import { collectBytes } from './tiny-image.ts';

/** A store in memory, whose content tests may spoil. */
export class MemoryStore implements ContentStore {
  readonly name = 'memory';
  readonly blobs = new Map<Digest, Uint8Array>();
  readonly manifests = new Map<Digest, StoredManifest>();
  readonly tags = new Map<string, Digest>();
  readonly referrers = new Map<Digest, Descriptor[]>();
  /** What was read, in order: `manifest X`, `blob X`, `referrers X`. */
  readonly reads: string[] = [];

  async getManifest(tagOrDigest: string): Promise<StoredManifest> {
    this.reads.push(`manifest ${tagOrDigest}`);
    const digest = isDigest(tagOrDigest) ? tagOrDigest : this.tags.get(tagOrDigest);
    const found = digest === undefined ? undefined : this.manifests.get(digest);
    if (found !== undefined) return found;
    throw new SnapgateError('MANIFEST_UNKNOWN', 'manifest unknown', { where: tagOrDigest });
  }

  async *openBlob(blob: Pick<Descriptor, 'digest' | 'size'>): AsyncGenerator<Uint8Array> {
    this.reads.push(`blob ${blob.digest}`);
    const bytes = this.blobs.get(blob.digest);
    if (bytes === undefined) throw new SnapgateError('BLOB_UNKNOWN', 'blob unknown');
    if (sha256(bytes) !== blob.digest) throw new SnapgateError('DIGEST_INVALID', 'spoilt blob');
    yield bytes;
  }

  async listReferrers(subject: Digest): Promise<Descriptor[]> {
    this.reads.push(`referrers ${subject}`);
    return this.referrers.get(subject) ?? [];
  }

  async hasBlob(digest: Digest): Promise<boolean> {
    return this.blobs.has(digest);
  }

  async putBlob(
    blob: Pick<Descriptor, 'digest' | 'size'>,
    body: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    this.blobs.set(blob.digest, await collectBytes(body));
  }

  async putManifest(manifest: StoredManifest, tag?: string): Promise<void> {
    const { digest, mediaType, bytes } = manifest;
    this.manifests.set(digest, manifest);
    if (tag !== undefined) this.tags.set(tag, digest);
    const subject = isIndexType(mediaType) ? undefined : parseManifest(bytes).subject?.digest;
    if (subject === undefined) return;
    const known = this.referrers.get(subject) ?? [];
    const others = known.filter((entry) => entry.digest !== digest);
    // As wrong as cosign leaves it.
    const artifactType = 'application/vnd.oci.empty.v1+json';
    const entry = { mediaType, digest, size: bytes.byteLength, artifactType };
    this.referrers.set(subject, [...others, entry]);
  }

  async listTags(): Promise<string[]> {
    return [...this.tags.keys()];
  }

  /** The layers of the manifest that holds the legacy signatures of a subject. */
  legacyLayers(subject: Digest): readonly Descriptor[] {
    const digest = this.tags.get(`sha256-${digestHex(subject)}.sig`);
    const stored = digest === undefined ? undefined : this.manifests.get(digest);
    return stored === undefined ? [] : parseManifest(stored.bytes).layers;
  }
}
