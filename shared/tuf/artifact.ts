import { type Digest, sha256 } from '../digest.ts';
import { SnapgateError } from '../errors.ts';
import type { ContentReader, ContentWriter, StoredManifest } from '../oci/content.ts';
import { type Descriptor, parseManifest } from '../oci/manifest.ts';
import { OCI_EMPTY, OCI_MANIFEST } from '../oci/media-types.ts';
import { metadataMissing } from './metadata.ts';
import { roleOfFile } from './roles.ts';

/** `artifactType` of a repository's metadata, as one OCI artifact. */
export const TUF_ARTIFACT = 'application/vnd.snapgate.tuf.v1';
/** Media type of each of its layers: one file of metadata, named by its title. */
const TUF_FILE = 'application/vnd.snapgate.tuf.metadata.v1+json';
/** Tag under which it stands beside the images of a bundle. */
export const TUF_TAG = 'snapgate-tuf';
/** Name that other tools give the file of a layer when they pull it. */
const TITLE = 'org.opencontainers.image.title';
const EMPTY = Buffer.from('{}');

/** Files of metadata by their names. */
export type MetadataFiles = ReadonlyMap<string, Uint8Array>;

/** Writes files of metadata as one artifact under a tag. */
export async function putMetadata(
  to: ContentWriter,
  files: MetadataFiles,
  tag: string,
): Promise<Digest> {
  const put = async (bytes: Uint8Array, mediaType: string): Promise<Descriptor> => {
    const blob = { mediaType, digest: sha256(bytes), size: bytes.length };
    await to.putBlob(blob, bodyOf(bytes));
    return blob;
  };
  const config = await put(EMPTY, OCI_EMPTY);
  const layers: Descriptor[] = [];
  for (const [name, bytes] of files) {
    layers.push({ ...(await put(bytes, TUF_FILE)), annotations: { [TITLE]: name } });
  }
  const manifest = {
    ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, artifactType: TUF_ARTIFACT, config, layers },
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  const stored: StoredManifest = { bytes, digest: sha256(bytes), mediaType: OCI_MANIFEST };
  await to.putManifest(stored, tag);
  return stored.digest;
}

async function* bodyOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** The layers of such an artifact by the names of their files. Throws METADATA_MISSING. */
export async function listMetadata(
  from: ContentReader,
  tag: string,
  signal?: AbortSignal,
): Promise<ReadonlyMap<string, Descriptor>> {
  const stored = await from.getManifest(tag, signal).catch((thrown: unknown) => {
    if (thrown instanceof SnapgateError && thrown.code === 'MANIFEST_UNKNOWN') return undefined;
    throw thrown;
  });
  const manifest = stored === undefined ? undefined : parseManifest(stored.bytes);
  if (manifest?.artifactType !== TUF_ARTIFACT) throw metadataMissing(`${from.name}:${tag}`);
  const files = new Map<string, Descriptor>();
  for (const layer of manifest.layers) {
    const name = layer.annotations?.[TITLE] ?? '';
    if (roleOfFile(name) !== undefined) files.set(name, layer);
  }
  return files;
}
