import type { ContentWriter, StoredManifest } from '../../shared/oci/content.ts';
import { DELTA_ARTIFACT, OCI_EMPTY, OCI_MANIFEST, TAR_DIFF } from '../../shared/oci/media-types.ts';
import { putBytes, storedManifest, type TinyImage } from './tiny-image.ts';

const PREFIX = 'io.github.containers.delta.';

/**
 * Writes a delta artifact whose layer deltas are nothing but `filler`: enough for all that looks at
 * its manifest alone.
 */
export async function putTinyDelta(
  store: ContentWriter,
  source: TinyImage,
  target: TinyImage,
  filler = 'delta',
): Promise<StoredManifest> {
  const config = await putBytes(store, OCI_EMPTY, '{}');
  const { digest, bytes } = target.stored;
  const content = (kind: string) => ({ [`${PREFIX}content`]: kind });
  const held = new Set(source.layers.map((layer) => layer.diffId));
  const deltas = [];
  for (const layer of target.layers) {
    if (held.has(layer.diffId)) continue;
    const annotations = { ...content('image-layer'), [`${PREFIX}to`]: layer.digest };
    deltas.push({ ...(await putBytes(store, TAR_DIFF, `${filler} ${layer.digest}`)), annotations });
  }
  const manifest = storedManifest({
    ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, artifactType: DELTA_ARTIFACT, config },
    layers: [
      { ...(await putBytes(store, OCI_MANIFEST, bytes)), annotations: content('image-manifest') },
      ...deltas,
    ],
    subject: { mediaType: OCI_MANIFEST, digest, size: bytes.byteLength },
    annotations: {
      [`${PREFIX}source`]: source.stored.digest,
      [`${PREFIX}source-config`]: source.config,
      [`${PREFIX}target`]: digest,
    },
  });
  await store.putManifest(manifest);
  return manifest;
}
