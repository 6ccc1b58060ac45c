import {
  type CreateDeltaOptions,
  type CreatedDelta,
  createDelta,
} from '../../gateway/delta/create-delta.ts';
import type { ImageSide } from '../../gateway/delta/image-side.ts';
import { withHeaders } from '../../gateway/delta/layer-headers.ts';
import type { LayoutStore } from '../../gateway/layout/layout-store.ts';
import { readDelta } from '../../gateway/plan/read-delta.ts';
import { readImage } from '../../gateway/plan/read-image.ts';
import { type ApplyOptions, applyLayerDelta } from '../../shared/delta/layer-delta/reader.ts';
import { createRecompressor } from '../../shared/delta/layer-delta/recompressor.ts';
import type { Piece, SourceTree } from '../../shared/delta/piece.ts';
import { applyTarDiff } from '../../shared/delta/tar-diff.ts';
import { MEMORY_WORKSPACE } from '../../shared/delta/workspace.ts';
import { TAR_DIFF } from '../../shared/oci/media-types.ts';
import { inChunks } from './bytes.ts';
import { memoryTree } from './layer-delta.ts';
import { collectBytes } from './tiny-image.ts';

/** Reads an image of a store as one side of a delta. */
export async function imageSide(store: LayoutStore, tag: string): Promise<ImageSide> {
  return { reader: store, ...(await readImage(store, tag)) };
}

/** Makes the delta from `v1` to `v2` of one store, into the same store. */
export async function makeDelta(
  store: LayoutStore,
  temporaryFolder: string,
  options: Partial<CreateDeltaOptions> = {},
): Promise<CreatedDelta> {
  const [source, target] = [await imageSide(store, 'v1'), await imageSide(store, 'v2')];
  const all = { source, target, output: store, temporaryFolder, workers: 1, tag: 'delta' };
  return createDelta({ ...all, ...options });
}

/**
 * The delta of the only layer that a delta from `v1` has, and what applies it, or the rest of it, to the
 * files of `v1`.
 */
export async function onlyLayerDelta(
  store: LayoutStore,
  digest: string,
  files: Readonly<Record<string, Buffer>>,
) {
  const [part] = (await readDelta(store, digest)).parts.values();
  if (part === undefined) throw new Error('the delta has no layer');
  const delta = await collectBytes(store.openBlob(part));
  const image = { reader: store, image: await imageSide(store, 'v1') };
  const source = withHeaders(memoryTree({ files }), image, MEMORY_WORKSPACE);
  const apply = (options: Partial<ApplyOptions> = {}, from = 0): Promise<Buffer> => {
    const recompressor = createRecompressor({ maxMemoryBytes: 1 << 27 });
    const all = { source, workspace: MEMORY_WORKSPACE, recompressor, ...options };
    return joinPieces(applyLayerDelta(inChunks(delta.subarray(from)), all));
  };
  return { delta, apply };
}

/**
 * What each part of a delta rebuilds, by the layer's digest in the target's manifest; parts that
 * are layers as they were published come out packed.
 */
export async function applyParts(
  store: LayoutStore,
  digest: string,
  tree: SourceTree,
): Promise<Map<string, Buffer>> {
  const { parts } = await readDelta(store, digest);
  const rebuilt = new Map<string, Buffer>();
  for (const [to, part] of parts) {
    const body = store.openBlob(part);
    const isDelta = part.mediaType === TAR_DIFF;
    rebuilt.set(to, await (isDelta ? joinPieces(applyTarDiff(body, tree)) : collectBytes(body)));
  }
  return rebuilt;
}

async function joinPieces(pieces: AsyncIterable<Piece>): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const { bytes } of pieces) parts.push(Buffer.from(bytes));
  return Buffer.concat(parts);
}
