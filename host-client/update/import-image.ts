import type { HeldImage } from '../storage/storage.ts';
import { channelName, type Machine } from './machine.ts';
import type { Target } from './target.ts';

/**
 * Hands Podman the whole image from the downloaded blobs: for a storage that single layers cannot be
 * put into.
 */
export function importImage(
  { config, downloads, storage }: Machine,
  target: Target,
  signal?: AbortSignal,
): Promise<HeldImage> {
  const digests = target.layers.map((layer) => layer.blob.digest);
  return storage.importImage({
    manifest: target.manifest,
    config: target.configBytes,
    layers: new Map(digests.map((digest) => [digest, downloads.path({ digest })])),
    name: channelName(config),
    ...(signal === undefined ? {} : { signal }),
  });
}
