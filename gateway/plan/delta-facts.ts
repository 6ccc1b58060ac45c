import {
  DELTA_ANNOTATION,
  FORMAT_ANNOTATION,
  readBounds,
  readTarBytes,
} from '../../shared/delta/annotations.ts';
import { nameOfNote } from '../../shared/delta/formats.ts';
import { type Digest, isDigest } from '../../shared/digest.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import { type Manifest, parseManifest } from '../../shared/oci/manifest.ts';
import {
  DELTA_ARTIFACT,
  isIndexType,
  LAYER_DELTA,
  layerCompression,
} from '../../shared/oci/media-types.ts';
import type { DeltaFacts } from '../store/facts.ts';

/**
 * What a referrer is, when it is a delta whose annotations make sense; otherwise undefined. Its
 * content is judged by those who apply it, not here.
 */
export function deltaFacts(stored: StoredManifest): DeltaFacts | undefined {
  if (isIndexType(stored.mediaType)) return undefined;
  const manifest = tryParse(stored.bytes);
  if (manifest?.artifactType !== DELTA_ARTIFACT) return undefined;
  const note = (name: string) => manifest.annotations?.[`${DELTA_ANNOTATION}${name}`] ?? '';
  const target = manifest.subject?.digest ?? note('target');
  const sourceConfig = note('source-config');
  if (!isDigest(target) || !isDigest(sourceConfig)) return undefined;
  const sourceManifest = note('source');
  const parts = deltaParts(manifest);
  const format = formatOf(manifest, parts);
  const size = stored.bytes.byteLength;
  return {
    ...{ artifact: stored.digest, size, target, sourceConfig },
    ...(isDigest(sourceManifest) ? { sourceManifest } : {}),
    ...(format === undefined ? {} : { format }),
    ...encodeSecondsOf(manifest),
    bytes: manifest.layers.reduce((sum, layer) => sum + layer.size, size),
    parts: parts.map(({ mediaType: _, ...part }) => part),
  };
}

/**
 * The class of the own format stands in the delta's annotation; others are known by their media type.
 * One of a class that is not known here has a name that nobody can read.
 */
function formatOf(manifest: Manifest, parts: readonly Part[]): string | undefined {
  const mediaType = parts.find((part) => part.kind === 'delta')?.mediaType;
  if (mediaType !== LAYER_DELTA) return mediaType;
  return nameOfNote(manifest.annotations?.[FORMAT_ANNOTATION] ?? '') ?? `${mediaType};unknown`;
}

function encodeSecondsOf(manifest: Manifest): Pick<DeltaFacts, 'encodeSeconds'> {
  try {
    const seconds = readBounds(manifest)?.encodeSeconds;
    return seconds === undefined ? {} : { encodeSeconds: seconds };
  } catch {
    return {};
  }
}

function tarBytesOf(layer: Manifest['layers'][number]): { tarBytes?: number } {
  try {
    const tarBytes = readTarBytes(layer);
    return tarBytes === undefined ? {} : { tarBytes };
  } catch {
    return {};
  }
}

function tryParse(bytes: Uint8Array): Manifest | undefined {
  try {
    return parseManifest(bytes);
  } catch {
    return undefined;
  }
}

type Part = DeltaFacts['parts'][number] & { readonly mediaType: string };

function deltaParts(manifest: Manifest): Part[] {
  const parts: Part[] = [];
  for (const layer of manifest.layers) {
    const { annotations, mediaType, size } = layer;
    if (annotations?.[`${DELTA_ANNOTATION}content`] !== 'image-layer') continue;
    const to = annotations[`${DELTA_ANNOTATION}to`] ?? '';
    if (!isDigest(to)) continue;
    const kind = layerCompression(mediaType) === undefined ? 'delta' : 'full';
    parts.push({ ...{ to: to as Digest, kind, bytes: size, mediaType }, ...tarBytesOf(layer) });
  }
  return parts;
}
