import type { Digest } from '../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { ContentReader, StoredManifest } from '../../shared/oci/content.ts';
import {
  type Descriptor,
  MAX_CONFIG_BYTES,
  type Platform,
  parseImageConfig,
  parseIndex,
  parseManifest,
  platformName,
  selectPlatform,
} from '../../shared/oci/manifest.ts';
import { isIndexType, layerCompression } from '../../shared/oci/media-types.ts';
import { readSmallBlob } from '../../shared/oci/read-small-blob.ts';
import type { PlanRequest } from '../../shared/plan.ts';
import { checkLength, checkStated } from '../../shared/tuf/statement.ts';
import type { LayerSource } from '../storage/storage.ts';
import type { UpdateSource } from './machine.ts';
import type { Trust } from './trust.ts';

/** An image that the policy accepts; all that is known of it so far is its manifest. */
export type TrustedManifest = {
  /** What the tag named: the image itself or an index of several. */
  readonly resolved: Digest;
  readonly manifest: StoredManifest;
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
};

/** The image that the machine should have. */
export type Target = {
  readonly resolved: Digest;
  readonly manifest: StoredManifest;
  /** Digest of the config, which is Podman's image id. */
  readonly config: Digest;
  readonly configBytes: Uint8Array;
  readonly layers: readonly LayerSource[];
  /** Bytes of a pull of everything: manifest, config and each different layer. */
  readonly fullBytes: number;
};

/**
 * Finds what a tag or digest means for this machine and judges it: the index first, where there is
 * one, then the image. Nothing but manifests and signatures is read. From here on everything goes by
 * digest, so a tag that moves meanwhile changes nothing.
 */
export async function resolveTarget(
  from: Pick<UpdateSource, 'reader' | 'api' | 'trust' | 'channel'>,
  tagOrDigest: string,
  platform: Platform,
  signal?: AbortSignal,
): Promise<TrustedManifest> {
  const { reader: source, api, trust, channel } = from;
  const first = await source.getManifest(tagOrDigest, signal);
  if (channel !== undefined) checkLength(channel.statement, first.bytes.length);
  const judge = () =>
    isIndexType(first.mediaType)
      ? judgeIndex(source, first, platform, trust, signal)
      : trust(first.digest, 'image', signal, { stored: first }).then(() => first);
  const manifest = await judge().catch(async (thrown) => {
    const asked = { target: tagOrDigest, platform: platformName(platform), have: [] };
    if (!(await mayBeSignedNow(thrown, api, asked, signal))) throw thrown;
    return await judge();
  });
  const { config, layers } = parseManifest(manifest.bytes);
  if (channel !== undefined) checkStated(channel.statement, config.digest);
  for (const layer of layers) {
    if (layerCompression(layer.mediaType) !== undefined) continue;
    throw new SnapgateError('MANIFEST_INVALID', `a layer is of type ${layer.mediaType}`, {
      where: `${source.name}@${manifest.digest}`,
      hint: 'Publish an image whose layers are tar streams, gzip or zstd packed or not at all.',
    });
  }
  return { resolved: first.digest, manifest, config, layers };
}

/**
 * A gateway may sign an image only once it is asked about it. The question tells it nothing and
 * brings nothing that is trusted; the signature is judged as before.
 */
async function mayBeSignedNow(
  refusal: unknown,
  api: UpdateSource['api'],
  request: PlanRequest,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (toSnapgateError(refusal).exitStatus !== 3 || api === undefined) return false;
  try {
    return (await api.plan(request, signal)) !== undefined;
  } catch {
    return false;
  }
}

/**
 * Publishers sign the index, or the image of each platform, or both. A signed index vouches for the
 * digests in it; under one that is not signed, the image itself must be. What else the policy asks
 * is asked of the image in either case.
 */
async function judgeIndex(
  source: ContentReader,
  index: StoredManifest,
  platform: Platform,
  trust: Trust,
  signal: AbortSignal | undefined,
): Promise<StoredManifest> {
  const judged = await trust(index.digest, 'image', signal).catch(toSnapgateError);
  if (judged instanceof SnapgateError && judged.exitStatus !== 3) throw judged;
  const entry = selectPlatform(parseIndex(index.bytes), platform);
  const manifest = await source.getManifest(entry.digest, signal);
  if (isIndexType(manifest.mediaType)) {
    throw new SnapgateError('MANIFEST_INVALID', 'an index names another index', {
      where: `${source.name}@${index.digest}`,
    });
  }
  const accepted = judged instanceof SnapgateError ? {} : { accepted: judged };
  const within = { index: index.digest, ...accepted };
  await trust(manifest.digest, 'image', signal, { stored: manifest, within });
  return manifest;
}

/**
 * Reads the config of a trusted image and checks that both agree. Throws CONFIG_BLOB_INVALID,
 * MANIFEST_INVALID, and what reading a blob throws.
 */
export async function readTarget(
  source: ContentReader,
  trusted: TrustedManifest,
  platform: Platform,
  signal?: AbortSignal,
): Promise<Target> {
  const { manifest, resolved } = trusted;
  const where = `${source.name}@${manifest.digest}`;
  const configBytes = await readSmallBlob(source, trusted.config, MAX_CONFIG_BYTES, signal);
  const config = parseImageConfig(configBytes);
  if (config.os !== platform.os || config.architecture !== platform.architecture) {
    const message = `the image is for ${platformName(config)}, the machine is ${platformName(platform)}`;
    throw new SnapgateError('MANIFEST_INVALID', message, {
      where,
      hint: 'Publish an index of all platforms, or set platform in the configuration.',
    });
  }
  const { diff_ids } = config.rootfs;
  if (diff_ids.length !== trusted.layers.length || diff_ids.length === 0) {
    const message = `${trusted.layers.length} layers in the manifest, ${diff_ids.length} in the config`;
    throw new SnapgateError('MANIFEST_INVALID', message, { where });
  }
  const layers = trusted.layers.map((blob, i) => ({ blob, diffId: diff_ids[i] as Digest }));
  const whole = manifest.bytes.length + trusted.config.size;
  const fullBytes = distinct(trusted.layers).reduce((sum, blob) => sum + blob.size, whole);
  return {
    ...{ resolved, manifest, config: trusted.config.digest, configBytes, layers },
    fullBytes,
  };
}

/** Each blob once: what occurs twice travels once. */
export function distinct(blobs: readonly Descriptor[]): Descriptor[] {
  return [...new Map(blobs.map((blob) => [blob.digest, blob])).values()];
}

/** The platform of this process, as image indexes name it. */
export function ownPlatform(): Platform {
  const architectures: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386' };
  const os = process.platform;
  return { os, architecture: architectures[process.arch] ?? process.arch };
}
