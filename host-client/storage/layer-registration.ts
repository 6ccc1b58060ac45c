import { rename, rm } from 'node:fs/promises';
import { SnapgateError } from '../../shared/errors.ts';
import { layerCompression } from '../../shared/oci/media-types.ts';
import { deleteSubvolumes, isSubvolume, moveSubvolume, syncFileSystem } from './btrfs.ts';
import type { ImageStore } from './image-store.ts';
import type { BuiltLayer } from './layer-builder.ts';
import {
  COMPRESSION_NUMBERS,
  type LayerRecord,
  type LayerStore,
  type LockedLayers,
} from './layer-store.ts';
import type { LayerSource } from './storage.ts';

/** A layer of the image, with Podman's id of it; `built` when it is not in storage yet. */
export type ChainLayer = {
  readonly id: string;
  readonly source: LayerSource;
  readonly built: BuiltLayer | undefined;
};

/**
 * Makes built layers Podman's own, in one go: subvolumes and tar-split records first, then the one
 * change of `layers.json` that makes them count. A record without its subvolume would make every
 * command of Podman fail; a subvolume without a record disturbs nobody. Layers that Podman got by
 * itself meanwhile are left as they are. `onPlaced` is called in between, before everything is synced.
 * Throws STORAGE_INVALID.
 */
export async function registerLayers(
  store: LayerStore,
  locked: LockedLayers,
  chain: readonly ChainLayer[],
  onPlaced?: () => Promise<void>,
): Promise<void> {
  let parent: string | undefined;
  for (const { id, source, built } of chain) {
    const known = locked.find(id);
    if (known !== undefined) nameBlob(known, source);
    else if (built === undefined) throw vanished(id);
    else {
      await placeLayer(store, id, built);
      locked.records.push(newRecord(id, parent, source, built));
    }
    parent = id;
  }
  await onPlaced?.();
  await syncFileSystem(store.graphRoot);
  await locked.write();
}

function vanished(id: string): SnapgateError {
  return new SnapgateError('STORAGE_INVALID', 'a layer was removed while the update ran', {
    where: id,
    hint: 'Run the update again.',
  });
}

/** The image's manifest finds its layers by the blobs that it names: a repacked layer gets that name. */
function nameBlob(record: LayerRecord, { blob, diffId }: LayerSource): void {
  if (record.flags?.incomplete || record['diff-digest'] !== diffId) {
    throw new SnapgateError('STORAGE_INVALID', 'Podman left a layer unfinished', {
      where: record.id,
      hint: 'Run podman images, which removes it, and then the update again.',
    });
  }
  if (record['compressed-diff-digest'] !== blob.digest) Object.assign(record, blobFields(blob));
}

function blobFields(blob: LayerSource['blob']): Record<string, unknown> {
  const kind = layerCompression(blob.mediaType);
  if (kind === undefined) {
    throw new SnapgateError('MANIFEST_INVALID', `a layer has the unknown type ${blob.mediaType}`);
  }
  return {
    'compressed-diff-digest': blob.digest,
    'compressed-size': blob.size,
    compression: COMPRESSION_NUMBERS[kind],
  };
}

async function placeLayer(store: LayerStore, id: string, built: BuiltLayer): Promise<void> {
  const target = store.subvolume(id);
  // Left by a crash, of ours or of Podman's.
  if (await isSubvolume(target)) await deleteSubvolumes([target]);
  await moveSubvolume(store.graphRoot, built.path, target);
  await rename(built.tarSplitPath, store.tarSplit(id));
}

function newRecord(
  id: string,
  parent: string | undefined,
  { diffId, blob }: LayerSource,
  built: BuiltLayer,
): LayerRecord {
  return {
    id,
    ...(parent === undefined ? {} : { parent }),
    created: new Date().toISOString(),
    ...blobFields(blob),
    'diff-digest': diffId,
    'diff-size': built.tarBytes,
    ...(built.uids.length > 0 ? { uidset: built.uids, gidset: built.gids } : {}),
  };
}

/**
 * Removes those of the layers that are half-made, and those that no image and no other layer uses;
 * returns the ids of what is left of them.
 */
export async function removeUnused(
  store: LayerStore,
  images: ImageStore,
  locked: LockedLayers,
  ids: readonly string[],
): Promise<string[]> {
  const used = await images.topLayers();
  const { records } = locked;
  const candidates = new Set(ids);
  const unused = (record: LayerRecord) =>
    candidates.has(record.id) &&
    !used.has(record.id) &&
    !records.some(({ parent }) => parent === record.id);
  const before = records.length;
  // From the top of each chain downwards.
  for (let at = records.findIndex(unused); at >= 0; at = records.findIndex(unused)) {
    records.splice(at, 1);
  }
  if (records.length < before) await locked.write();
  const gone = ids.filter((id) => locked.find(id) === undefined);
  for (const id of gone) {
    if (await isSubvolume(store.subvolume(id))) await deleteSubvolumes([store.subvolume(id)]);
    await rm(store.tarSplit(id), { force: true });
  }
  return ids.filter((id) => !gone.includes(id));
}
