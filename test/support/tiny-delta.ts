import { boundsAnnotations } from '../../shared/delta/annotations.ts';
import { formatNote, type LayerFormat } from '../../shared/delta/formats.ts';
import { packTarDiff, type TarDiffWriter } from '../../shared/delta/tar-diff-writer.ts';
import type { ContentWriter, StoredManifest } from '../../shared/oci/content.ts';
import {
  DELTA_ARTIFACT,
  LAYER_DELTA,
  OCI_CONFIG,
  OCI_EMPTY,
  OCI_MANIFEST,
  TAR_DIFF,
} from '../../shared/oci/media-types.ts';
import { collectBytes, putBytes, storedManifest, type TinyImage } from './tiny-image.ts';

const PREFIX = 'io.github.containers.delta.';

/**
 * A layer delta in the tar-diff format that copies one file of the source tree, and carries the rest
 * as it is.
 */
export async function tarDiffCopying(
  tar: Uint8Array,
  path: string,
  content: Uint8Array,
): Promise<Buffer> {
  const at = Buffer.from(tar).indexOf(content);
  const fill = async (writer: TarDiffWriter) => {
    await writer.data(at < 0 ? tar : tar.subarray(0, at));
    if (at < 0) return;
    await writer.open(path);
    await writer.copy(0, content.length);
    await writer.data(tar.subarray(at + content.length));
  };
  return collectBytes(packTarDiff(fill, { level: 3, windowLog: 20 }));
}

/**
 * Writes a delta artifact. By default its layer deltas are nothing but filler: enough for all that
 * looks at its manifest alone.
 */
export async function putTinyDelta(
  store: ContentWriter,
  source: TinyImage,
  target: TinyImage,
  layerDelta: (layer: TinyImage['layers'][number]) => Promise<string | Uint8Array> = async (
    layer,
  ) => `delta ${layer.digest}`,
  format: LayerFormat = { kind: 'tar-diff' },
  more: Readonly<Record<string, string>> = {},
): Promise<StoredManifest> {
  const config = await putBytes(store, OCI_EMPTY, '{}');
  const { digest, bytes } = target.stored;
  const content = (kind: string) => ({ [`${PREFIX}content`]: kind });
  const held = new Set(source.layers.map((layer) => layer.diffId));
  const deltas = [];
  const isOwn = format.kind === 'snapgate';
  const mediaType = isOwn ? LAYER_DELTA : TAR_DIFF;
  for (const layer of target.layers) {
    if (held.has(layer.diffId)) continue;
    const annotations = { ...content('image-layer'), [`${PREFIX}to`]: layer.digest };
    deltas.push({ ...(await putBytes(store, mediaType, await layerDelta(layer))), annotations });
  }
  const layers = [
    { ...(await putBytes(store, OCI_MANIFEST, bytes)), annotations: content('image-manifest') },
    {
      ...(await putBytes(store, OCI_CONFIG, target.configBytes)),
      annotations: content('image-config'),
    },
    ...deltas,
  ];
  const bounds = {
    ...{ format: formatNote(format), temporaryBytes: 0, installedBytes: 0, windowBytes: 0 },
    wireBytes: layers.reduce((sum, layer) => sum + layer.size, 0),
  };
  const manifest = storedManifest({
    ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, artifactType: DELTA_ARTIFACT, config, layers },
    subject: { mediaType: OCI_MANIFEST, digest, size: bytes.byteLength },
    annotations: {
      [`${PREFIX}source`]: source.stored.digest,
      [`${PREFIX}source-config`]: source.config,
      [`${PREFIX}target`]: digest,
      ...(isOwn ? boundsAnnotations(bounds) : {}),
      ...more,
    },
  });
  await store.putManifest(manifest);
  return manifest;
}
