import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader, StoredManifest } from '../../shared/oci/content.ts';
import {
  type ImageConfig,
  MAX_CONFIG_BYTES,
  type Manifest,
  type Platform,
  parseImageConfig,
  parseIndex,
  parseManifest,
  platformName,
  selectPlatform,
} from '../../shared/oci/manifest.ts';
import { isIndexType, layerCompression } from '../../shared/oci/media-types.ts';
import { readSmallBlob } from '../../shared/oci/read-small-blob.ts';
import type { ImageFacts } from '../store/facts.ts';

/** An image of one platform, read and checked. */
export type ReadImage = {
  readonly stored: StoredManifest;
  readonly manifest: Manifest;
  readonly config: ImageConfig;
  readonly facts: ImageFacts;
};

/** This machine's platform, as images name it. */
export function machinePlatform(): Platform {
  const names: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', arm: 'arm' };
  return { os: 'linux', architecture: names[process.arch] ?? process.arch };
}

/**
 * The manifest that a tag or digest means: an index leads to its entry for `platform`. An image that
 * stands alone is taken whatever its platform. Throws MANIFEST_UNKNOWN, MANIFEST_INVALID, USAGE when
 * an index needs a platform and none is given.
 */
export async function resolveManifest(
  reader: ContentReader,
  tagOrDigest: string,
  platform: Platform | undefined,
  signal?: AbortSignal,
): Promise<StoredManifest> {
  const stored = await reader.getManifest(tagOrDigest, signal);
  if (!isIndexType(stored.mediaType)) return stored;
  if (platform === undefined) {
    throw new SnapgateError('USAGE', 'the image has several platforms and none was asked for', {
      where: `${reader.name} ${tagOrDigest}`,
      hint: 'Name the platform, for example linux/amd64.',
    });
  }
  const entry = selectPlatform(parseIndex(stored.bytes), platform);
  const found = await reader.getManifest(entry.digest, signal);
  if (isIndexType(found.mediaType)) {
    throw new SnapgateError('MANIFEST_INVALID', 'an index inside an index is not supported', {
      where: reader.name,
    });
  }
  return found;
}

/** Reads the image that {@link resolveManifest} finds, and its config. Throws as that, and more. */
export async function readImage(
  reader: ContentReader,
  tagOrDigest: string,
  platform?: Platform,
  signal?: AbortSignal,
): Promise<ReadImage> {
  return readImageOf(reader, await resolveManifest(reader, tagOrDigest, platform, signal), signal);
}

/**
 * Reads the config of a manifest and checks that the two fit. Throws MANIFEST_INVALID for what is
 * no image of tar layers, CONFIG_BLOB_INVALID.
 */
export async function readImageOf(
  reader: ContentReader,
  stored: StoredManifest,
  signal?: AbortSignal,
): Promise<ReadImage> {
  const manifest = parseManifest(stored.bytes);
  const where = `${reader.name}@${stored.digest}`;
  const odd = manifest.layers.find((layer) => layerCompression(layer.mediaType) === undefined);
  if (odd !== undefined) {
    throw new SnapgateError('MANIFEST_INVALID', `a layer is of type ${odd.mediaType}`, {
      where,
      hint: 'Only images whose layers are tar archives can be sent as deltas.',
    });
  }
  const bytes = await readSmallBlob(reader, manifest.config, MAX_CONFIG_BYTES, signal);
  const config = parseImageConfig(bytes);
  return { stored, manifest, config, facts: imageFacts(stored, manifest, config, where) };
}

function imageFacts(
  stored: StoredManifest,
  manifest: Manifest,
  config: ImageConfig,
  where: string,
): ImageFacts {
  const diffIds = config.rootfs.diff_ids;
  if (diffIds.length !== manifest.layers.length) {
    throw new SnapgateError(
      'CONFIG_BLOB_INVALID',
      `the config names ${diffIds.length} layers, the manifest ${manifest.layers.length}`,
      { where },
    );
  }
  return {
    manifest: stored.digest,
    manifestSize: stored.bytes.byteLength,
    config: manifest.config.digest,
    configSize: manifest.config.size,
    platform: platformName(config),
    layers: manifest.layers.map(({ digest, size }, i) => ({
      diffId: diffIds[i] as Digest,
      digest,
      size,
    })),
  };
}
