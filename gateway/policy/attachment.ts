import type { StoredManifest } from '../../shared/oci/content.ts';
import { type Manifest, parseManifest } from '../../shared/oci/manifest.ts';
import {
  DELTA_ARTIFACT,
  DOCKER_CONFIG,
  isIndexType,
  OCI_CONFIG,
  OCI_INDEX,
  SIGSTORE_BUNDLE,
  SIMPLE_SIGNING,
} from '../../shared/oci/media-types.ts';

/** What signatures and attestations consist of. */
const ATTACHED_TYPES = [
  SIMPLE_SIGNING,
  SIGSTORE_BUNDLE,
  'application/vnd.dsse.envelope.v1+json',
] as const;
/** The tag of a list of referrers (distribution specification 1.1, "Referrers Tag Schema"). */
const REFERRERS_TAG = /^sha256-[0-9a-f]{64}$/;

/**
 * Whether a manifest is about an image instead of being one: signatures, attestations and other
 * referrers, and lists of them. Deltas are none of these. What runs as an image never passes for one:
 * it has a config of an image and layers.
 */
export function isAttachment(stored: StoredManifest, reference: string): boolean {
  if (isIndexType(stored.mediaType)) {
    return stored.mediaType === OCI_INDEX && REFERRERS_TAG.test(reference);
  }
  const manifest = parseManifest(stored.bytes);
  if (manifest.artifactType === DELTA_ARTIFACT) return false;
  return holdsAttachedOnly(manifest) || (manifest.subject !== undefined && !isImage(manifest));
}

function holdsAttachedOnly({ layers }: Manifest): boolean {
  const types: readonly string[] = ATTACHED_TYPES;
  return layers.length > 0 && layers.every(({ mediaType }) => types.includes(mediaType));
}

function isImage({ config }: Manifest): boolean {
  return config.mediaType === OCI_CONFIG || config.mediaType === DOCKER_CONFIG;
}
