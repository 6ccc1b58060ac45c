import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader, StoredManifest } from '../../shared/oci/content.ts';
import type { Descriptor, ImageConfig, Manifest } from '../../shared/oci/manifest.ts';
import {
  DEFAULT_UNPACK_LIMITS,
  type UnpackLimits,
  unpackLayer,
} from '../../shared/oci/unpack-layer.ts';
import { DEFAULT_TAR_LIMITS, type TarLimits } from '../../shared/tar/reader.ts';
import type { ImageFacts } from '../store/facts.ts';

/** One of the two images of a delta: where its blobs are, and what was read of it. */
export type ImageSide = {
  readonly reader: ContentReader;
  readonly stored: StoredManifest;
  readonly manifest: Manifest;
  readonly config: ImageConfig;
  readonly facts: ImageFacts;
};

/** What is accepted from each layer. */
export type LayerLimits = { readonly unpack: UnpackLimits; readonly tar: TarLimits };

export const DEFAULT_LAYER_LIMITS: LayerLimits = {
  unpack: DEFAULT_UNPACK_LIMITS,
  // Each entry of a source is kept in memory, at some hundred bytes.
  tar: { ...DEFAULT_TAR_LIMITS, maxEntries: 1_000_000 },
};

/** Counts the entries of an image: each is kept in memory. */
export class EntryCount {
  readonly #most: number;
  #count = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Takes one more. Throws LIMIT_EXCEEDED. */
  add(): void {
    this.#count += 1;
    if (this.#count <= this.#most) return;
    throw new SnapgateError('LIMIT_EXCEEDED', `an image has more than ${this.#most} entries`, {
      hint: 'Allow more memory for making deltas, or pull the image as it is.',
    });
  }
}

/** The tar stream of a layer, checked against its diff_id. Throws as {@link unpackLayer}. */
export function openLayer(
  image: ImageSide,
  index: number,
  limits: LayerLimits,
  signal: AbortSignal,
  onRead: (bytes: number) => void,
): AsyncGenerator<Uint8Array, void, void> {
  const blob = image.manifest.layers[index] as Descriptor;
  const diffId = image.config.rootfs.diff_ids[index] as Digest;
  const body = counted(image.reader.openBlob(blob, { signal }), onRead, signal);
  return unpackLayer(body, blob, diffId, limits.unpack);
}

async function* counted(
  body: AsyncIterable<Uint8Array>,
  onRead: (bytes: number) => void,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  for await (const chunk of body) {
    signal.throwIfAborted();
    onRead(chunk.byteLength);
    yield chunk;
  }
}
