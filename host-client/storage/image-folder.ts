import { mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestHex, sha256 } from '../../shared/digest.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';

/**
 * Writes an image as the `dir:` transport of Skopeo reads it, which takes OCI and Docker manifests
 * alike: `manifest.json`, and each blob as a file named by the hex digits of its digest. Without
 * `layers` it is enough to copy the image to where all its layers are. Replaces what was there.
 */
export async function writeImageFolder(
  folder: string,
  manifest: StoredManifest,
  config: Uint8Array,
  layers: ReadonlyMap<Digest, string> = new Map(),
): Promise<void> {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true, mode: 0o700 });
  await writeFile(join(folder, 'version'), 'Directory Transport Version: 1.1\n');
  await writeFile(join(folder, 'manifest.json'), manifest.bytes);
  await writeFile(join(folder, digestHex(sha256(config))), config);
  for (const [digest, path] of layers) await symlink(path, join(folder, digestHex(digest)));
}
