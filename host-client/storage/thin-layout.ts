import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestHex, sha256 } from '../../shared/digest.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import { OCI_INDEX } from '../../shared/oci/media-types.ts';

/** The tag of the one image in a layout of {@link writeThinLayout}. */
export const THIN_TAG = 'image';

/**
 * Writes an OCI layout with the manifest and the config of an image and none of its layers: enough to
 * copy it to where all layers are. Replaces what was in the folder.
 */
export async function writeThinLayout(
  folder: string,
  manifest: StoredManifest,
  config: Uint8Array,
): Promise<void> {
  const blobs = join(folder, 'blobs', 'sha256');
  await rm(folder, { recursive: true, force: true });
  await mkdir(blobs, { recursive: true, mode: 0o700 });
  await writeFile(join(blobs, digestHex(manifest.digest)), manifest.bytes);
  await writeFile(join(blobs, digestHex(sha256(config))), config);
  await writeFile(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  const { mediaType, digest, bytes } = manifest;
  const annotations = { 'org.opencontainers.image.ref.name': THIN_TAG };
  const entry = { mediaType, digest, size: bytes.length, annotations };
  const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [entry] };
  await writeFile(join(folder, 'index.json'), JSON.stringify(index));
}
