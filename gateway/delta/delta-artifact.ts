import {
  boundsAnnotations,
  DELTA_ANNOTATION,
  type DeltaBounds,
  tarBytesAnnotation,
} from '../../shared/delta/annotations.ts';
import { type Digest, sha256 } from '../../shared/digest.ts';
import type { ContentWriter, StoredManifest } from '../../shared/oci/content.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import { DELTA_ARTIFACT, OCI_EMPTY, OCI_MANIFEST } from '../../shared/oci/media-types.ts';
import type { ImageSide } from './image-side.ts';

/** What brings one layer of the target: a delta, or the layer's own blob. */
export type DeltaPart = {
  /** The blob without annotations. */
  readonly blob: Descriptor;
  /** Digest of the layer in the target's manifest. */
  readonly to: Digest;
  readonly tarBytes: number;
};

/** What a delta artifact is made of. */
export type ArtifactContent = {
  readonly source: ImageSide;
  readonly target: ImageSide;
  readonly parts: readonly DeltaPart[];
  readonly bounds: Omit<DeltaBounds, 'wireBytes'>;
};

const EMPTY = Buffer.from('{}');

/** The manifest of a delta artifact, in the layout of oci-delta version 1. */
export function artifactManifest(content: ArtifactContent): StoredManifest {
  const { source, target, parts } = content;
  const { digest, mediaType, bytes } = target.stored;
  const subject = { mediaType, digest, size: bytes.byteLength };
  const { config } = target.manifest;
  const layers: Descriptor[] = [
    { ...subject, annotations: contentKind('image-manifest') },
    { ...plain(config), annotations: contentKind('image-config') },
    ...parts.map(({ blob, to, tarBytes }) => ({
      ...plain(blob),
      annotations: {
        ...contentKind('image-layer'),
        [`${DELTA_ANNOTATION}to`]: to,
        ...tarBytesAnnotation(tarBytes),
      },
    })),
  ];
  const held = new Set(source.facts.layers.map((layer) => layer.diffId));
  const reused = target.facts.layers.filter((layer) => held.has(layer.diffId));
  const wireBytes = layers.reduce((sum, layer) => sum + layer.size, 0);
  const manifest = {
    ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, artifactType: DELTA_ARTIFACT },
    config: { mediaType: OCI_EMPTY, digest: sha256(EMPTY), size: EMPTY.length, data: 'e30=' },
    ...{ layers, subject },
    annotations: {
      [`${DELTA_ANNOTATION}source`]: source.stored.digest,
      [`${DELTA_ANNOTATION}source-config`]: source.manifest.config.digest,
      [`${DELTA_ANNOTATION}target`]: digest,
      [`${DELTA_ANNOTATION}reused`]: JSON.stringify(reused.map((layer) => layer.digest)),
      [`${DELTA_ANNOTATION}reused-diff-id`]: JSON.stringify(reused.map((layer) => layer.diffId)),
      ...boundsAnnotations({ ...content.bounds, wireBytes }),
    },
  };
  const text = Buffer.from(JSON.stringify(manifest));
  return { digest: sha256(text), mediaType: OCI_MANIFEST, bytes: text };
}

function contentKind(kind: string): Record<string, string> {
  return { [`${DELTA_ANNOTATION}content`]: kind };
}

function plain({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}

/**
 * Writes a delta artifact: its blobs, and its manifest last. `open` reads the blob of a part.
 */
export async function writeArtifact(
  output: ContentWriter,
  content: ArtifactContent,
  manifest: StoredManifest,
  open: (part: DeltaPart) => AsyncIterable<Uint8Array>,
  tag?: string,
): Promise<void> {
  const { stored, manifest: image, reader } = content.target;
  await put(output, { digest: sha256(EMPTY), size: EMPTY.length }, () => once(EMPTY));
  await put(output, { digest: stored.digest, size: stored.bytes.byteLength }, () =>
    once(stored.bytes),
  );
  await put(output, image.config, () => reader.openBlob(image.config));
  for (const part of content.parts) await put(output, part.blob, () => open(part));
  await output.putManifest(manifest, tag);
}

async function put(
  output: ContentWriter,
  blob: Pick<Descriptor, 'digest' | 'size'>,
  body: () => AsyncIterable<Uint8Array>,
): Promise<void> {
  if (!(await output.hasBlob(blob.digest))) await output.putBlob(blob, body());
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
  yield bytes;
}
