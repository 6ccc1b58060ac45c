import { DEFAULT_LAYER_DELTA_LIMITS } from '../../shared/delta/layer-delta/header.ts';
import { type ApplyOptions, applyLayerDelta } from '../../shared/delta/layer-delta/reader.ts';
import { createRecompressor } from '../../shared/delta/layer-delta/recompressor.ts';
import type { Piece, SourceTree } from '../../shared/delta/piece.ts';
import { applyTarDiff, DEFAULT_TAR_DIFF_LIMITS } from '../../shared/delta/tar-diff.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import { LAYER_DELTA, TAR_DIFF } from '../../shared/oci/media-types.ts';
import { unpackLayer } from '../../shared/oci/unpack-layer.ts';
import type { Config } from '../config.ts';
import type { ImageTransaction, LayerResult, LayerSource, Storage } from '../storage/storage.ts';
import { tidily } from '../system/tidy-memory.ts';
import { fallbackReasonOf } from './choose-way.ts';
import type { Downloads } from './downloads.ts';
import { encoderBytes, findEncoders } from './encoders.ts';
import { EncoderWatch } from './watch-encoders.ts';
import { type FetchedLayer, type LayerWay, usesEncoders, type Way } from './ways.ts';

/** What building layers needs. */
export type BuildContext = {
  readonly storage: Pick<Storage, 'openSource' | 'reassembleLayer' | 'workspace'>;
  readonly downloads: Downloads;
  readonly limits: Config['limits'];
  /** Fetches a layer whole, because it could not be rebuilt. */
  readonly fetchWhole: (layer: LayerSource) => Promise<void>;
};

/** What the missing layers cost. */
export type BuildResult = {
  readonly bytesWritten: number;
  readonly bytesCloned: number;
  /** Why layers were fetched whole that should not have been. */
  readonly fallbackReason?: string;
};

/**
 * Adds every missing layer to a transaction in the way that was chosen. A layer that cannot be rebuilt
 * from what is held is fetched whole. Throws ENCODER_MISMATCH: then another delta may do.
 */
export async function buildLayers(
  context: BuildContext,
  transaction: Pick<ImageTransaction, 'missing' | 'addLayer'>,
  way: Way,
): Promise<BuildResult> {
  const total = { bytesWritten: 0, bytesCloned: 0 };
  const reasons: string[] = [];
  using tree = openTree(context, way);
  for (const layer of transaction.missing) {
    const chosen = way.layers.find(
      ({ diffId, kind }) => diffId === layer.diffId && kind !== 'reused',
    );
    const from = { source: tree.source, usesEncoders: usesEncoders(way) };
    const result = await addLayer(context, transaction, layer, chosen, from, reasons);
    total.bytesWritten += result.bytesWritten;
    total.bytesCloned += result.bytesCloned;
  }
  return { ...total, ...(reasons.length === 0 ? {} : { fallbackReason: reasons.join('; ') }) };
}

async function addLayer(
  context: BuildContext,
  transaction: Pick<ImageTransaction, 'addLayer'>,
  layer: LayerSource,
  chosen: LayerWay | undefined,
  from: DeltaBase,
  reasons: string[],
): Promise<LayerResult> {
  const watch = new EncoderWatch();
  try {
    const pieces = rebuild(context, chosen, from, watch);
    return await transaction.addLayer(layer, tidily(pieces, bytesOf));
  } catch (thrown) {
    const error = watch.judge(thrown);
    if (error.code === 'ENCODER_MISMATCH') throw error;
    if (chosen !== undefined) await dropBadFile(context, chosen, thrown);
    const reason = chosen?.kind === 'full' ? undefined : fallbackReasonOf(thrown);
    if (reason === undefined) throw thrown;
    if (!reasons.includes(reason)) reasons.push(reason);
  }
  await context.fetchWhole(layer);
  return await transaction.addLayer(layer, tidily(wholeLayer(context, layer), bytesOf));
}

/** What deltas are applied to, and whether they may have this machine pack files again. */
type DeltaBase = { readonly source: SourceTree | undefined; readonly usesEncoders: boolean };

type OpenTree = Disposable & { readonly source: SourceTree | undefined };

/** The source image is opened only when a layer is rebuilt from it. */
function openTree({ storage }: BuildContext, way: Way): OpenTree {
  const isNeeded = way.layers.some((layer) => layer.kind === 'delta');
  if (!isNeeded || way.source === undefined) {
    return { source: undefined, [Symbol.dispose]() {} };
  }
  const source = storage.openSource(way.source);
  return { source, [Symbol.dispose]: () => source[Symbol.dispose]() };
}

function rebuild(
  context: BuildContext,
  layer: LayerWay | undefined,
  from: DeltaBase,
  watch: EncoderWatch,
): AsyncIterable<Piece> {
  if (layer !== undefined && 'fetch' in layer) {
    return layer.kind === 'full'
      ? wholeLayer(context, layer)
      : applyDelta(context, layer, from, watch);
  }
  if (layer?.kind === 'reparented') return context.storage.reassembleLayer(layer.diffId);
  throw new SnapgateError('STORAGE_INVALID', 'a layer went away while the update ran', {
    hint: 'Run the same command again.',
  });
}

function applyDelta(
  { storage, downloads, limits }: BuildContext,
  { fetch, diffId }: FetchedLayer,
  { source, usesEncoders }: DeltaBase,
  watch: EncoderWatch,
): AsyncIterable<Piece> {
  if (source !== undefined && fetch.mediaType === TAR_DIFF) {
    return applyTarDiff(downloads.read(fetch), source, {
      ...DEFAULT_TAR_DIFF_LIMITS,
      maxOutputBytes: limits.layerBytes,
      maxWindowLog: limits.windowLog,
    });
  }
  if (source !== undefined && fetch.mediaType === LAYER_DELTA) {
    const options = {
      ...{ source, workspace: storage.workspace, expected: diffId },
      limits: {
        ...DEFAULT_LAYER_DELTA_LIMITS,
        maxOutputBytes: limits.layerBytes,
        maxWindowLog: limits.windowLog,
      },
    };
    const delta = downloads.read(fetch);
    // One that was agreed on as needing no encoders gets none.
    if (!usesEncoders) return applyLayerDelta(delta, options);
    return applyRecompressing(delta, encoderBytes(limits.encoderBytes), watch, options);
  }
  throw new SnapgateError('DELTA_INVALID', `no way to apply ${fetch.mediaType}`);
}

async function* applyRecompressing(
  delta: AsyncIterable<Uint8Array>,
  maxEncoderBytes: number,
  watch: EncoderWatch,
  options: Omit<ApplyOptions, 'recompressor'>,
): AsyncGenerator<Piece, void, void> {
  const encoders = await findEncoders();
  const recompressor = createRecompressor({ encoders, maxMemoryBytes: maxEncoderBytes });
  yield* applyLayerDelta(delta, { ...options, recompressor: watch.watch(recompressor) });
}

async function* wholeLayer(
  { downloads, limits }: BuildContext,
  { blob, diffId }: LayerSource,
): AsyncGenerator<Piece, void, void> {
  const bounds = { maxBytes: limits.layerBytes, maxWindowLog: limits.windowLog };
  for await (const bytes of unpackLayer(downloads.read(blob), blob, diffId, bounds)) {
    yield { bytes };
  }
}

/** A file that is not what it should be would only fail again. */
async function dropBadFile(
  { downloads }: BuildContext,
  layer: LayerWay,
  thrown: unknown,
): Promise<void> {
  if (toSnapgateError(thrown).exitStatus !== 4 || !('fetch' in layer)) return;
  await downloads.remove((digest) => digest === layer.fetch.digest);
}

function bytesOf({ bytes }: Piece): number {
  return bytes.length;
}
