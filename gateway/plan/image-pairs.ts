import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader, StoredManifest } from '../../shared/oci/content.ts';
import {
  type Index,
  type Platform,
  parseIndex,
  parsePlatform,
  platformName,
  selectPlatform,
} from '../../shared/oci/manifest.ts';
import { isIndexType } from '../../shared/oci/media-types.ts';
import { type ReadImage, readImage, readImageOf } from './read-image.ts';

/** An image or index by name. */
export type Named = { readonly reader: ContentReader; readonly tagOrDigest: string };

/** Two images of the same platform. */
export type ImagePair = {
  readonly platform: string;
  readonly source: ReadImage;
  readonly target: ReadImage;
};

/**
 * The images to compare: those for `platform`, or without it every platform that both sides have,
 * in the order of the target's index. Two single images are compared whatever they are for. Throws
 * MANIFEST_UNKNOWN when they have no platform in common, and what reading throws.
 */
export async function imagePairs(
  source: Named,
  target: Named,
  platform?: Platform,
  signal?: AbortSignal,
): Promise<ImagePair[]> {
  if (platform !== undefined) return [await pair(source, target, platform, signal)];
  const [old, fresh] = [await open(source, signal), await open(target, signal)];
  if (old.index === undefined && fresh.index === undefined) {
    return [await pair(source, target, undefined, signal)];
  }
  if (old.index === undefined || fresh.index === undefined) {
    const single = old.index === undefined ? [source, old.stored] : [target, fresh.stored];
    const [{ reader }, stored] = single as [Named, StoredManifest];
    const { facts } = await readImageOf(reader, stored, signal);
    return [await pair(source, target, parsePlatform(facts.platform), signal)];
  }
  const common = platformsOf(fresh.index).filter((entry) => has(old.index as Index, entry));
  if (common.length === 0) {
    throw new SnapgateError('MANIFEST_UNKNOWN', 'the images have no platform in common', {
      where: `${source.reader.name} and ${target.reader.name}`,
    });
  }
  const pairs: ImagePair[] = [];
  for (const one of common) pairs.push(await pair(source, target, one, signal));
  return pairs;
}

async function open({ reader, tagOrDigest }: Named, signal: AbortSignal | undefined) {
  const stored = await reader.getManifest(tagOrDigest, signal);
  return { stored, index: isIndexType(stored.mediaType) ? parseIndex(stored.bytes) : undefined };
}

async function pair(
  source: Named,
  target: Named,
  platform: Platform | undefined,
  signal: AbortSignal | undefined,
): Promise<ImagePair> {
  const old = await readImage(source.reader, source.tagOrDigest, platform, signal);
  const fresh = await readImage(target.reader, target.tagOrDigest, platform, signal);
  const name = platform === undefined ? fresh.facts.platform : platformName(platform);
  return { platform: name, source: old, target: fresh };
}

/** The platforms of an index, without attestations (`unknown/unknown`). */
function platformsOf(index: Index): Platform[] {
  return index.manifests
    .filter((entry) => !isIndexType(entry.mediaType))
    .map((entry) => entry.platform)
    .filter((entry) => entry !== undefined)
    .filter((entry) => entry.os !== 'unknown');
}

function has(index: Index, wanted: Platform): boolean {
  try {
    selectPlatform(index, wanted);
    return true;
  } catch {
    return false;
  }
}
