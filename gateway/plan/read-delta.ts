import { DELTA_ANNOTATION, type DeltaBounds, readBounds } from '../../shared/delta/annotations.ts';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader, StoredManifest } from '../../shared/oci/content.ts';
import {
  type Descriptor,
  MAX_MANIFEST_BYTES,
  type Manifest,
  parseManifest,
} from '../../shared/oci/manifest.ts';
import { readSmallBlob } from '../../shared/oci/read-small-blob.ts';
import type { DeltaFacts } from '../store/facts.ts';
import { deltaFacts } from './delta-facts.ts';
import { type ReadImage, readImageOf } from './read-image.ts';

/** A delta artifact, read and checked as far as its manifests go. */
export type ReadDelta = {
  readonly stored: StoredManifest;
  readonly manifest: Manifest;
  readonly facts: DeltaFacts;
  /** What applying it takes, where it says so. */
  readonly bounds: DeltaBounds | undefined;
  /** The image that it leads to; its manifest and config come out of the delta. */
  readonly target: ReadImage;
  /** By the target layer's compressed digest: the blob that brings it. */
  readonly parts: ReadonlyMap<Digest, Descriptor>;
};

/**
 * Reads a delta and the image manifest and config inside it. Throws MANIFEST_UNKNOWN, and
 * DELTA_INVALID for what is no delta or contradicts itself.
 */
export async function readDelta(
  reader: ContentReader,
  tagOrDigest: string,
  signal?: AbortSignal,
): Promise<ReadDelta> {
  const stored = await reader.getManifest(tagOrDigest, signal);
  const where = `${reader.name} ${tagOrDigest}`;
  const facts = deltaFacts(stored);
  if (facts === undefined) {
    throw new SnapgateError('DELTA_INVALID', 'this is no delta artifact', {
      where,
      hint: 'Name the delta by the digest that delta create printed.',
    });
  }
  const manifest = parseManifest(stored.bytes);
  const content = (layer: Descriptor) => layer.annotations?.[`${DELTA_ANNOTATION}content`];
  const image = manifest.layers.find((layer) => content(layer) === 'image-manifest');
  if (image?.digest !== facts.target) {
    throw new SnapgateError('DELTA_INVALID', 'the delta does not hold the manifest it leads to', {
      where,
    });
  }
  const { digest, mediaType } = image;
  const bytes = await readSmallBlob(reader, image, MAX_MANIFEST_BYTES, signal);
  const target = await readImageOf(reader, { digest, mediaType, bytes }, signal);
  const parts = new Map<Digest, Descriptor>();
  for (const layer of manifest.layers) {
    const to = layer.annotations?.[`${DELTA_ANNOTATION}to`] as Digest | undefined;
    if (content(layer) === 'image-layer' && to !== undefined) parts.set(to, layer);
  }
  return { stored, manifest, facts, bounds: readBounds(manifest), target, parts };
}
