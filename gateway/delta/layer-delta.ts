import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { LayerFormat } from '../../shared/delta/formats.ts';
import { applyLayerDelta } from '../../shared/delta/layer-delta/reader.ts';
import { createRecompressor } from '../../shared/delta/layer-delta/recompressor.ts';
import { encoderBytes } from '../../shared/delta/machine-class.ts';
import { applyTarDiff, DEFAULT_TAR_DIFF_LIMITS } from '../../shared/delta/tar-diff.ts';
import { packTarDiff, type TarDiffPacking } from '../../shared/delta/tar-diff-writer.ts';
import { type Digest, digestFromHex } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { TarLimits } from '../../shared/tar/reader.ts';
import { planFiles } from './file-plans.ts';
import { fileWorkspace } from './file-workspace.ts';
import { LeftBehind } from './keep-memory-small.ts';
import { ownLayerDelta } from './own-layer-delta.ts';
import { type OwnPlanOptions, OwnPlans } from './own-plans.ts';
import { ProvedEncodings } from './proved-encodings.ts';
import type { TargetLayer } from './target-layer.ts';
import type { CheckpointSpacing } from './write-layer-delta.ts';
import { writeTarDiff } from './write-tar-diff.ts';
import { encodersFor, findEncoders } from './zstd-program.ts';

/** A layer delta in a temporary file. */
export type LayerDelta = {
  readonly path: string;
  readonly digest: Digest;
  readonly size: number;
  /** Temporary room that applying it takes, in bytes. */
  readonly room: number;
  /** Seconds for which encoders run when it is applied. */
  readonly encodeSeconds: number;
};

/** What making a layer delta takes. */
export type LayerDeltaOptions = OwnPlanOptions & {
  readonly name: string;
  readonly diffId: Digest;
  readonly format: LayerFormat['kind'];
  readonly packing: TarDiffPacking;
  readonly tarLimits: TarLimits;
  readonly checkpoints?: CheckpointSpacing | undefined;
  /** A delta of this size or more is of no use: it is given up as soon as it is reached. */
  readonly maxBytes: number;
  readonly signal: AbortSignal;
  readonly onProgress: (fraction: number) => void;
};

/**
 * Makes the delta of a layer and proves it by applying it. Undefined when it would have `maxBytes`
 * or more.
 */
export async function makeLayerDelta(
  layer: TargetLayer,
  options: LayerDeltaOptions,
): Promise<LayerDelta | undefined> {
  const path = join(options.folder, options.name);
  const proved = new ProvedEncodings();
  let cost = { room: 0, encodeSeconds: 0 };
  const onCost = (room: number, encodeSeconds: number) => {
    cost = { room, encodeSeconds };
  };
  const chunks =
    options.format === 'tar-diff'
      ? tarDiff(layer, options)
      : own(layer, options, { path, proved, onCost });
  const written = await writeHashed(path, chunks, options.maxBytes);
  if (written === undefined || written.size === 0) {
    await rm(path);
    return undefined;
  }
  await prove(path, proved, options);
  return { path, ...cost, ...written };
}

function tarDiff(layer: TargetLayer, options: LayerDeltaOptions): AsyncIterable<Uint8Array> {
  const plans = planFiles(layer, options);
  return packTarDiff(
    (writer) => writeTarDiff(layer, options.store, plans, writer, progressOf(layer, options)),
    options.packing,
  );
}

type OwnWork = {
  readonly path: string;
  readonly proved: ProvedEncodings;
  readonly onCost: (room: number, encodeSeconds: number) => void;
};

function own(
  layer: TargetLayer,
  options: LayerDeltaOptions,
  { path, proved, onCost }: OwnWork,
): AsyncIterable<Uint8Array> {
  const { store, diffId, packing, maxBytes, tarLimits, checkpoints } = options;
  return ownLayerDelta(layer, new OwnPlans(layer, options), {
    ...{ store, diffId, proved, maxBytes, tarLimits, checkpoints, bodyPath: `${path}-body` },
    ...{ level: packing.level, windowLog: packing.windowLog },
    onProgress: progressOf(layer, options),
    onCost,
  });
}

function progressOf(layer: TargetLayer, { signal, onProgress }: LayerDeltaOptions) {
  const left = new LeftBehind();
  let last = 0;
  return (position: number) => {
    signal.throwIfAborted();
    left.add(position - last);
    last = position;
    onProgress(position / layer.spool.size);
  };
}

async function writeHashed(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
): Promise<Pick<LayerDelta, 'digest' | 'size'> | undefined> {
  const hash = createHash('sha256');
  let size = 0;
  const file = await open(path, 'wx', 0o600);
  try {
    for await (const chunk of chunks) {
      size += chunk.length;
      if (size >= maxBytes) return undefined;
      hash.update(chunk);
      await file.writeFile(chunk);
    }
  } finally {
    await file.close();
  }
  return { digest: digestFromHex(hash.digest('hex')), size };
}

/** Applies the delta to the source that it was made from: what is published must rebuild the layer. */
async function prove(
  path: string,
  proved: ProvedEncodings,
  options: LayerDeltaOptions,
): Promise<void> {
  const { store, diffId, signal, format, machines } = options;
  const workspace = fileWorkspace(options.folder);
  const hash = createHash('sha256');
  const delta = createReadStream(path, { highWaterMark: 256 * 1024, signal });
  const pieces =
    format === 'tar-diff'
      ? applyTarDiff(delta, store, DEFAULT_TAR_DIFF_LIMITS)
      : applyLayerDelta(delta, {
          ...{ source: store, workspace, expected: diffId },
          ...(machines === undefined
            ? {}
            : {
                recompressor: proved.recompressor(
                  createRecompressor({
                    encoders: encodersFor(await findEncoders(), machines),
                    maxMemoryBytes: encoderBytes(machines),
                  }),
                ),
              }),
        });
  const left = new LeftBehind();
  for await (const { bytes } of pieces) {
    hash.update(bytes);
    left.add(bytes.length);
  }
  if (digestFromHex(hash.digest('hex')) === diffId) return;
  throw new SnapgateError('INTERNAL', `the delta of layer ${diffId} does not rebuild it`, {
    hint: 'This is a defect of the program; the image can be pulled as it is.',
  });
}
