import type { ContentReader, StoredManifest } from '../../shared/oci/content.ts';
import {
  MAX_CONFIG_BYTES,
  parseImageConfig,
  parseIndex,
  parseManifest,
  platformName,
} from '../../shared/oci/manifest.ts';
import { isIndexType } from '../../shared/oci/media-types.ts';
import { readSmallBlob } from '../../shared/oci/read-small-blob.ts';
import type { Statement } from '../../shared/tuf/statement.ts';

const VERSION = 'org.opencontainers.image.version';

/** What a statement says of an image besides its digest. */
export type DescribedImages = Pick<Statement, 'images' | 'version'>;

/**
 * Platform and config of an image, or of every image in an index, and the version that it states.
 * Throws MANIFEST_INVALID, CONFIG_BLOB_INVALID and what reading throws.
 */
export async function describeImages(
  reader: ContentReader,
  stored: StoredManifest,
  signal?: AbortSignal,
): Promise<DescribedImages> {
  if (!isIndexType(stored.mediaType)) return describeOne(reader, stored, signal);
  const index = parseIndex(stored.bytes);
  const images: Statement['images'] = [];
  let version = index.annotations?.[VERSION];
  for (const entry of index.manifests) {
    // Attestations stand beside the images that they are about.
    if (isIndexType(entry.mediaType) || entry.platform?.os === 'unknown') continue;
    const one = await describeOne(reader, await reader.getManifest(entry.digest, signal), signal);
    images.push(...one.images);
    version ??= one.version;
  }
  return { images, ...(version === undefined ? {} : { version }) };
}

async function describeOne(
  reader: ContentReader,
  stored: StoredManifest,
  signal: AbortSignal | undefined,
): Promise<DescribedImages> {
  const { config: blob, annotations } = parseManifest(stored.bytes);
  const config = parseImageConfig(await readSmallBlob(reader, blob, MAX_CONFIG_BYTES, signal));
  const version = annotations?.[VERSION] ?? config.config?.Labels?.[VERSION];
  const images = [{ platform: platformName(config), config: blob.digest }];
  return { images, ...(version === undefined ? {} : { version }) };
}
