import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { digestFromHex, digestHex, isDigest, sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import { manifestMediaType } from '../../shared/oci/manifest.ts';
import { OCI_MANIFEST } from '../../shared/oci/media-types.ts';
import { readIfThere } from '../system/files.ts';
import type { LayerRecord } from './layer-store.ts';
import type { HeldImage } from './storage.ts';

const imageSchema = v.looseObject({
  id: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  digest: v.optional(v.string()),
  names: v.optional(v.nullable(v.array(v.string()))),
  layer: v.optional(v.string()),
  created: v.optional(v.string()),
});
type ImageRecord = v.InferOutput<typeof imageSchema>;

/** Podman's record of images under a graph root. Only Podman's own tools write it. */
export class ImageStore {
  readonly #folder: string;

  constructor(graphRoot: string) {
    this.#folder = join(graphRoot, 'btrfs-images');
  }

  /** Ids of the top layers of all images. */
  async topLayers(): Promise<Set<string>> {
    const records = await this.#read();
    return new Set(records.map((record) => record.layer ?? '').filter(Boolean));
  }

  /** The images whose layers are all among `layers`. Throws STORAGE_INVALID. */
  async list(layers: ReadonlyMap<string, LayerRecord>): Promise<HeldImage[]> {
    const records = await this.#read();
    return records
      .map((record) => heldImage(record, layers))
      .filter((image) => image !== undefined);
  }

  /** The manifest of an image, byte for byte. Throws STORAGE_INVALID. */
  async readManifest(image: HeldImage): Promise<StoredManifest> {
    const key = image.manifest === undefined ? 'manifest' : `manifest-${image.manifest}`;
    const bytes = await this.#readBigData(image, key);
    const digest = sha256(bytes);
    if (image.manifest !== undefined && digest !== image.manifest) {
      throw invalid('the manifest of an image has changed', image.manifest);
    }
    return { digest, bytes, mediaType: manifestMediaType(bytes, '') || OCI_MANIFEST };
  }

  /** The config of an image, byte for byte. Throws STORAGE_INVALID. */
  async readConfig(image: HeldImage): Promise<Uint8Array> {
    const bytes = await this.#readBigData(image, image.config);
    if (sha256(bytes) === image.config) return bytes;
    throw invalid('the config of an image has changed', image.config);
  }

  async #readBigData(image: HeldImage, key: string): Promise<Buffer> {
    // containers/storage: names that are not plain words are kept in base64.
    const name = /^[a-z]+$/.test(key) ? key : `=${Buffer.from(key).toString('base64')}`;
    const path = join(this.#folder, digestHex(image.config), name);
    try {
      return await readFile(path);
    } catch (cause) {
      throw invalid('an image is incomplete in storage', path, cause);
    }
  }

  async #read(): Promise<ImageRecord[]> {
    const path = join(this.#folder, 'images.json');
    const text = await readIfThere(path);
    if (text === undefined) return [];
    try {
      return v.parse(v.array(imageSchema), JSON.parse(text));
    } catch (cause) {
      throw invalid('Podman’s record of images is not as expected', path, cause);
    }
  }
}

function invalid(message: string, where: string, cause?: unknown): SnapgateError {
  const hint = 'Run podman system check, or remove the image and pull it again.';
  return new SnapgateError('STORAGE_INVALID', message, { where, hint, cause });
}

function heldImage(
  record: ImageRecord,
  layers: ReadonlyMap<string, LayerRecord>,
): HeldImage | undefined {
  const chain: LayerRecord[] = [];
  for (let id = record.layer; id !== undefined && id !== ''; ) {
    const layer = layers.get(id);
    if (layer === undefined || chain.length > layers.size) return undefined;
    chain.unshift(layer);
    id = layer.parent;
  }
  const diffIds = chain
    .map((layer) => layer['diff-digest'])
    .filter((diffId) => diffId !== undefined);
  if (diffIds.length !== chain.length || chain.length === 0) return undefined;
  const { digest } = record;
  return {
    config: digestFromHex(record.id),
    manifest: digest !== undefined && isDigest(digest) ? digest : undefined,
    names: record.names ?? [],
    diffIds,
    layerIds: chain.map((layer) => layer.id),
    created: record.created,
  };
}
