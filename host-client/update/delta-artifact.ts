import { DELTA_ANNOTATION, type DeltaBounds, readBounds } from '../../shared/delta/annotations.ts';
import { type Digest, isDigest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import { type Descriptor, type Manifest, parseManifest } from '../../shared/oci/manifest.ts';
import { DELTA_ARTIFACT } from '../../shared/oci/media-types.ts';
import type { Target } from './target.ts';
import type { Trust } from './trust.ts';

/** A delta that the policy accepts and that leads from a held image to the target. */
export type TrustedDelta = {
  readonly artifact: Digest;
  /** Bytes of its manifest. */
  readonly size: number;
  readonly sourceConfig: Digest;
  /** What rebuilds a layer, by the digest of the layer as the target's manifest names it. */
  readonly parts: ReadonlyMap<Digest, Descriptor>;
  /** What applying it takes; undefined for deltas of tools that do not say. */
  readonly bounds: DeltaBounds | undefined;
};

/**
 * Fetches a delta's manifest, judges its signature, and only then reads what it says. Throws
 * DELTA_INVALID, DELTA_SOURCE_MISMATCH, and what trust and the registry throw.
 */
export async function readDelta(
  source: ContentReader,
  artifact: Digest,
  expected: { readonly target: Target; readonly sourceConfig: Digest },
  trust: Trust,
  signal?: AbortSignal,
): Promise<TrustedDelta> {
  const stored = await source.getManifest(artifact, signal);
  await trust(artifact, 'delta', signal, { stored });
  const manifest = parseManifest(stored.bytes);
  const where = `${source.name}@${artifact}`;
  const note = (name: string) => manifest.annotations?.[`${DELTA_ANNOTATION}${name}`];
  if (manifest.artifactType !== DELTA_ARTIFACT) {
    throw new SnapgateError('DELTA_INVALID', 'this is no delta', { where });
  }
  const { target, sourceConfig } = expected;
  const subject = manifest.subject?.digest ?? note('target');
  if (subject !== target.manifest.digest || (note('target') ?? subject) !== subject) {
    throw new SnapgateError('DELTA_INVALID', 'the delta is for another target', { where });
  }
  if (note('source-config') !== sourceConfig) {
    throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'the delta is for another source', { where });
  }
  const bounds = readBounds(manifest);
  return { artifact, size: stored.bytes.length, sourceConfig, parts: readParts(manifest), bounds };
}

/** Layers of a kind that is not known are passed over, as the format asks. */
function readParts(manifest: Manifest): Map<Digest, Descriptor> {
  const parts = new Map<Digest, Descriptor>();
  for (const layer of manifest.layers) {
    const to = layer.annotations?.[`${DELTA_ANNOTATION}to`];
    const isLayer = layer.annotations?.[`${DELTA_ANNOTATION}content`] === 'image-layer';
    if (isLayer && to !== undefined && isDigest(to)) parts.set(to, layer);
  }
  return parts;
}
