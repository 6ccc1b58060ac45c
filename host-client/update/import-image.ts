import { link, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestHex } from '../../shared/digest.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import type { HeldImage } from '../storage/storage.ts';
import { channelName, type Machine } from './machine.ts';
import { distinct, type Target } from './target.ts';

/**
 * Hands Podman the whole image from an OCI layout made of the downloaded blobs: for a storage that
 * single layers cannot be put into.
 */
export async function importImage(
  machine: Machine,
  target: Target,
  signal?: AbortSignal,
): Promise<HeldImage> {
  const { config, downloads, state, storage } = machine;
  const layout = join(state.path, 'layout');
  await rm(layout, { recursive: true, force: true });
  const blobs = join(layout, 'blobs', 'sha256');
  try {
    await mkdir(blobs, { recursive: true, mode: 0o700 });
    for (const { digest } of distinct(target.layers.map((layer) => layer.blob))) {
      const path = join(blobs, digestHex(digest));
      await link(downloads.path({ digest }), path).catch(() =>
        symlink(downloads.path({ digest }), path),
      );
    }
    await writeFile(join(blobs, digestHex(target.config)), target.configBytes);
    await writeFile(join(blobs, digestHex(target.manifest.digest)), target.manifest.bytes);
    await writeFile(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
    await writeFile(join(layout, 'index.json'), layoutIndex(target.manifest, config.tag));
    const name = channelName(config);
    return await storage.importLayout({
      ...{ layout, tag: config.tag, name },
      ...(signal === undefined ? {} : { signal }),
    });
  } finally {
    await rm(layout, { recursive: true, force: true });
  }
}

function layoutIndex({ mediaType, digest, bytes }: StoredManifest, tag: string): string {
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  return JSON.stringify({
    schemaVersion: 2,
    manifests: [{ mediaType, digest, size: bytes.length, annotations }],
  });
}
