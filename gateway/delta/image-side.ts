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
import { LeftBehind } from './keep-memory-small.ts';

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
  // What is kept of each entry in memory is bounded besides.
  tar: { ...DEFAULT_TAR_LIMITS, maxEntries: 4_000_000 },
};

/** Memory for an entry besides the bytes of its path. */
const ENTRY_BYTES = 170;

/** How many entries an image may have, and what is kept of them in memory, in bytes. */
export type EntryLimits = { readonly maxEntries: number; readonly maxEntryBytes: number };

/** Counts the entries of an image, and the memory that they take. */
export class EntryCount {
  readonly #limits: EntryLimits;
  #count = 0;
  #bytes = 0;

  constructor(limits: EntryLimits) {
    this.#limits = limits;
  }

  /** Memory taken so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Takes one more. Throws LIMIT_EXCEEDED. */
  add(path: string): void {
    const { maxEntries } = this.#limits;
    this.#count += 1;
    if (this.#count > maxEntries) throw tooMany(`an image has more than ${maxEntries} entries`);
    this.take(ENTRY_BYTES + path.length);
  }

  /** Takes memory for what is there. Throws LIMIT_EXCEEDED. */
  take(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes <= this.#limits.maxEntryBytes) return;
    throw tooMany(`the ${this.#count} first entries of an image take the memory that is for them`);
  }
}

function tooMany(message: string): SnapgateError {
  return new SnapgateError('LIMIT_EXCEEDED', message, {
    hint: 'Allow more memory for making deltas, or pull the image as it is.',
  });
}

/** The tar stream of a layer, checked against its diff_id. Throws as {@link unpackLayer}. */
export async function* openLayer(
  image: ImageSide,
  index: number,
  limits: LayerLimits,
  signal: AbortSignal,
  onRead: (bytes: number) => void,
): AsyncGenerator<Uint8Array, void, void> {
  const blob = image.manifest.layers[index] as Descriptor;
  const diffId = image.config.rootfs.diff_ids[index] as Digest;
  const left = new LeftBehind();
  const onPacked = (bytes: number) => {
    left.add(bytes);
    onRead(bytes);
  };
  const body = counted(image.reader.openBlob(blob, { signal }), onPacked, signal);
  for await (const bytes of unpackLayer(body, blob, diffId, limits.unpack)) {
    left.add(bytes.byteLength);
    yield bytes;
  }
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
