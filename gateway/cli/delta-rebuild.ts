import { readTarBytes } from '../../shared/delta/annotations.ts';
import { applyLayerDelta } from '../../shared/delta/layer-delta/reader.ts';
import { createRecompressor } from '../../shared/delta/layer-delta/recompressor.ts';
import type { Piece, SourceTree } from '../../shared/delta/piece.ts';
import { applyTarDiff, DEFAULT_TAR_DIFF_LIMITS } from '../../shared/delta/tar-diff.ts';
import type { Workspace } from '../../shared/delta/workspace.ts';
import { type Digest, sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader, StoredManifest } from '../../shared/oci/content.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import {
  DOCKER_LAYER_TAR,
  DOCKER_MANIFEST,
  LAYER_DELTA,
  layerCompression,
  OCI_LAYER_TAR,
  TAR_DIFF,
} from '../../shared/oci/media-types.ts';
import { unpackLayer } from '../../shared/oci/unpack-layer.ts';
import type { PlanLayer } from '../../shared/plan.ts';
import { findEncoders } from '../delta/zstd-program.ts';
import type { LayoutStore } from '../layout/layout-store.ts';
import type { ReadDelta } from '../plan/read-delta.ts';
import type { ReadImage } from '../plan/read-image.ts';

/** Longest layer rebuilt, in bytes of its tar stream: a delta of a few bytes could ask for any. */
const MAX_LAYER_BYTES = 64 * 1024 ** 3;
/** Memory that an encoder of compressed content may take, in bytes. */
const MAX_ENCODER_BYTES = 1024 ** 3;
/** Pieces are gathered to runs of about this size, in bytes, before they are written. */
const RUN_BYTES = 256 * 1024;

/** What is needed to rebuild an image. */
export type RebuildOptions = {
  readonly delta: ReadDelta;
  /** Where the delta's blobs are. */
  readonly from: ContentReader;
  readonly tree: SourceTree;
  /** Room for what a delta keeps aside. */
  readonly workspace: Workspace;
  /** The source image, when its layers can be read: layers that did not change come from it. */
  readonly source?: { readonly reader: ContentReader; readonly image: ReadImage } | undefined;
  readonly output: LayoutStore;
  readonly tag?: string | undefined;
  /** Aborts between pieces. */
  readonly signal?: AbortSignal | undefined;
  readonly onLayer?: (done: number, total: number) => void;
};

/** The image that came out. */
export type RebuiltImage = {
  readonly manifest: StoredManifest;
  /** Whether it is the original manifest, so that its signatures hold. */
  readonly isOriginal: boolean;
  readonly layers: readonly PlanLayer[];
  /** Layers that neither the delta nor the output nor the source holds: the image lacks them. */
  readonly missing: readonly Digest[];
  /** Bytes written as layers. */
  readonly bytesWritten: number;
};

type Done = { readonly descriptor: Descriptor; readonly written: number; readonly plan: PlanLayer };

/**
 * Rebuilds the target image of a delta as an OCI layout, every layer checked against its diff_id.
 *
 * A delta brings back a layer's tar stream, not the compressed blob that the manifest names, whose
 * exact bytes only the compressor of its builder makes. So, as with the oci-delta tool, a rebuilt
 * layer gets a descriptor of its own (here: uncompressed) and the manifest changes with it; the
 * config, and with it the image id, stays. Only where all layers have their original digests (those
 * that were never compressed do) is the original manifest kept.
 */
export async function rebuildImage(options: RebuildOptions): Promise<RebuiltImage> {
  const { target } = options.delta;
  const total = target.facts.layers.length;
  const done: (Done | undefined)[] = [];
  for (const index of target.facts.layers.keys()) {
    done.push(await rebuildLayer(options, index));
    options.onLayer?.(index + 1, total);
  }
  const { config } = target.manifest;
  await options.output.putBlob(config, options.from.openBlob(config));
  const manifest = outputManifest(target, done);
  await options.output.putManifest(manifest, options.tag);
  const reused = (i: number): PlanLayer => ({ ...layerAt(target, i), kind: 'reused', bytes: 0 });
  return {
    manifest,
    isOriginal: manifest.digest === target.stored.digest,
    layers: done.map((layer, i) => layer?.plan ?? reused(i)),
    missing: done.flatMap((layer, i) => (layer === undefined ? [layerAt(target, i).diffId] : [])),
    bytesWritten: done.reduce((sum, layer) => sum + (layer?.written ?? 0), 0),
  };
}

function layerAt(target: ReadImage, index: number): { diffId: Digest } {
  return { diffId: target.config.rootfs.diff_ids[index] as Digest };
}

async function rebuildLayer(options: RebuildOptions, index: number): Promise<Done | undefined> {
  const { delta, from, output } = options;
  const wanted = delta.target.manifest.layers[index] as Descriptor;
  const { diffId } = layerAt(delta.target, index);
  const part = delta.parts.get(wanted.digest);
  if (part === undefined) return heldLayer(options, wanted, diffId);
  if (layerCompression(part.mediaType) !== undefined) {
    await output.putBlob(part, from.openBlob(part));
    await checkDiffId(output, part, diffId);
    const plan: PlanLayer = { diffId, kind: 'full', bytes: part.size };
    const descriptor = { ...wanted, digest: part.digest, size: part.size };
    return { descriptor, written: part.size, plan };
  }
  const tar = gather(await applyLayer(options, part, diffId));
  const size = await putTar(output, diffId, tar);
  const descriptor = uncompressed(wanted, delta.target.stored.mediaType, diffId, size);
  return { descriptor, written: size, plan: { diffId, kind: 'delta', bytes: part.size } };
}

/** The tar stream that a layer delta makes of the source tree. Throws DELTA_INVALID. */
async function applyLayer(
  { from, tree, workspace, signal }: RebuildOptions,
  part: Descriptor,
  diffId: Digest,
): Promise<AsyncIterable<Piece>> {
  const delta = from.openBlob(part, signal === undefined ? {} : { signal });
  if (part.mediaType === TAR_DIFF) {
    const maxOutputBytes = readTarBytes(part) ?? MAX_LAYER_BYTES;
    return applyTarDiff(delta, tree, { ...DEFAULT_TAR_DIFF_LIMITS, maxOutputBytes });
  }
  if (part.mediaType === LAYER_DELTA) {
    const encoders = await findEncoders();
    const recompressor = createRecompressor({ encoders, maxMemoryBytes: MAX_ENCODER_BYTES });
    return applyLayerDelta(delta, { source: tree, workspace, expected: diffId, recompressor });
  }
  throw new SnapgateError('DELTA_INVALID', `layer deltas of type ${part.mediaType} are unknown`, {
    where: from.name,
    hint: 'A newer version may know them; the image itself can be pulled with any.',
  });
}

/** A layer that the delta leaves out because the source image has it. */
async function heldLayer(
  { output, source }: RebuildOptions,
  wanted: Descriptor,
  diffId: Digest,
): Promise<Done | undefined> {
  const plan: PlanLayer = { diffId, kind: 'reused', bytes: 0 };
  if (await output.hasBlob(wanted.digest)) return { descriptor: wanted, written: 0, plan };
  const at = source?.image.config.rootfs.diff_ids.indexOf(diffId) ?? -1;
  const held = source?.image.manifest.layers[at];
  if (source === undefined || held === undefined) return undefined;
  await output.putBlob(held, source.reader.openBlob(held));
  await checkDiffId(output, held, diffId);
  return { descriptor: held, written: held.size, plan };
}

async function putTar(
  output: LayoutStore,
  diffId: Digest,
  tar: AsyncIterable<Uint8Array>,
): Promise<number> {
  try {
    return await output.putBlobOfDigest(diffId, tar, MAX_LAYER_BYTES);
  } catch (thrown) {
    if (!(thrown instanceof SnapgateError) || thrown.code !== 'DIGEST_INVALID') throw thrown;
    throw new SnapgateError('DIFF_ID_MISMATCH', `layer ${diffId} came out different`, {
      hint: 'The source tree is not that of the source image, or was changed since.',
      cause: thrown,
    });
  }
}

function uncompressed(
  wanted: Descriptor,
  manifestType: string,
  diffId: Digest,
  size: number,
): Descriptor {
  if (wanted.digest === diffId) return wanted;
  const mediaType = manifestType === DOCKER_MANIFEST ? DOCKER_LAYER_TAR : OCI_LAYER_TAR;
  return { ...wanted, mediaType, digest: diffId, size };
}

/** The original manifest bytes where nothing changed; else the same manifest with other layers. */
function outputManifest(target: ReadImage, done: readonly (Done | undefined)[]): StoredManifest {
  const { stored, manifest } = target;
  const layers = manifest.layers.map((layer, i) => done[i]?.descriptor ?? layer);
  if (layers.every((layer, i) => layer.digest === manifest.layers[i]?.digest)) return stored;
  const original = JSON.parse(new TextDecoder().decode(stored.bytes)) as object;
  const bytes = Buffer.from(JSON.stringify({ ...original, layers }));
  return { digest: sha256(bytes), mediaType: stored.mediaType, bytes };
}

/** Copies pieces, whose buffers are used again, into larger runs. */
async function* gather(pieces: AsyncIterable<Piece>): AsyncGenerator<Uint8Array> {
  let run = Buffer.allocUnsafe(RUN_BYTES);
  let used = 0;
  for await (const { bytes } of pieces) {
    for (let at = 0; at < bytes.byteLength; ) {
      const part = bytes.subarray(at, at + RUN_BYTES - used);
      run.set(part, used);
      used += part.byteLength;
      at += part.byteLength;
      if (used < RUN_BYTES) continue;
      yield run;
      run = Buffer.allocUnsafe(RUN_BYTES);
      used = 0;
    }
  }
  if (used > 0) yield run.subarray(0, used);
}

/** Unpacks a stored layer to see whether it is the one its place asks for. Throws DIFF_ID_MISMATCH. */
async function checkDiffId(store: LayoutStore, blob: Descriptor, diffId: Digest): Promise<void> {
  for await (const _ of unpackLayer(store.openBlob(blob), blob, diffId));
}
