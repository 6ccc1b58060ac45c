import type { Digest } from '../../shared/digest.ts';
import { toSnapgateError } from '../../shared/errors.ts';
import type { ContentReader, ContentWriter, StoredManifest } from '../../shared/oci/content.ts';
import { type Descriptor, parseManifest } from '../../shared/oci/manifest.ts';
import { DELTA_ARTIFACT, isIndexType, SIGSTORE_BUNDLE } from '../../shared/oci/media-types.ts';
import { legacyTag, MAX_REFERRERS } from '../../shared/signing/find-signatures.ts';

/** From where and to where content is copied. */
export type Copying = {
  readonly from: ContentReader;
  readonly to: ContentWriter;
  readonly signal?: AbortSignal | undefined;
};

/** Copies blobs that are not there yet. */
export async function copyBlobs(
  { from, to, signal }: Copying,
  blobs: readonly Descriptor[],
): Promise<void> {
  const options = signal === undefined ? {} : { signal };
  for (const blob of blobs) await to.putBlob(blob, from.openBlob(blob, options));
}

/** Copies a manifest with all that it names, byte for byte. */
export async function copyManifest(
  copying: Copying,
  stored: StoredManifest,
  tag?: string,
): Promise<void> {
  const { config, layers } = parseManifest(stored.bytes);
  await copyBlobs(copying, [config, ...layers]);
  await copying.to.putManifest(stored, tag);
}

/** Copies the signatures of a manifest in both forms, unjudged, and says how many manifests hold them. */
export async function copySignatures(copying: Copying, subject: Digest): Promise<number> {
  const { from, signal } = copying;
  let count = 0;
  const referrers = await from.listReferrers(subject, signal);
  for (const { digest, mediaType, artifactType } of referrers.slice(0, MAX_REFERRERS)) {
    if (isIndexType(mediaType) || artifactType === DELTA_ARTIFACT) continue;
    const stored = await from.getManifest(digest, signal);
    if (!isBundleOf(stored, subject)) continue;
    await copyManifest(copying, stored);
    count++;
  }
  const tag = legacyTag(subject);
  const legacy = await from.getManifest(tag, signal).catch((thrown: unknown) => {
    if (toSnapgateError(thrown).code === 'MANIFEST_UNKNOWN') return undefined;
    throw thrown;
  });
  if (legacy === undefined || isIndexType(legacy.mediaType)) return count;
  await copyManifest(copying, legacy, tag);
  return count + 1;
}

function isBundleOf(stored: StoredManifest, subject: Digest): boolean {
  if (isIndexType(stored.mediaType)) return false;
  const manifest = parseManifest(stored.bytes);
  return (
    manifest.subject?.digest === subject &&
    manifest.layers.some((layer) => layer.mediaType === SIGSTORE_BUNDLE)
  );
}
