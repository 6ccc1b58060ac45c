import {
  type CreateDeltaOptions,
  type CreatedDelta,
  createDelta,
} from '../../gateway/delta/create-delta.ts';
import type { ImageSide } from '../../gateway/delta/image-side.ts';
import type { LayoutStore } from '../../gateway/layout/layout-store.ts';
import { readDelta } from '../../gateway/plan/read-delta.ts';
import { readImage } from '../../gateway/plan/read-image.ts';
import type { SourceTree } from '../../shared/delta/piece.ts';
import { applyTarDiff } from '../../shared/delta/tar-diff.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { TAR_DIFF } from '../../shared/oci/media-types.ts';
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

/** A source tree of files in memory; paths hold one byte a character. */
export function memoryTree(files: ReadonlyMap<string, Uint8Array>): SourceTree {
  return {
    open(path) {
      const bytes = files.get(path);
      if (bytes === undefined) {
        throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'no such file', { where: path });
      }
      const read = (target: Uint8Array, offset: number) => {
        const part = bytes.subarray(offset, offset + target.length);
        target.set(part);
        return part.length;
      };
      return { path, size: bytes.length, read };
    },
    close() {},
  };
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
    const chunks: Buffer[] = [];
    if (part.mediaType === TAR_DIFF) {
      for await (const { bytes } of applyTarDiff(store.openBlob(part), tree)) {
        chunks.push(Buffer.from(bytes));
      }
    } else chunks.push(await collectBytes(store.openBlob(part)));
    rebuilt.set(to, Buffer.concat(chunks));
  }
  return rebuilt;
}
