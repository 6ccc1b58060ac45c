import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { applyTarDiff, DEFAULT_TAR_DIFF_LIMITS } from '../../shared/delta/tar-diff.ts';
import { packTarDiff, type TarDiffPacking } from '../../shared/delta/tar-diff-writer.ts';
import { type Digest, digestFromHex } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { type PlanOptions, planFiles } from './file-plans.ts';
import type { TargetLayer } from './target-layer.ts';
import { writeTarDiff } from './write-tar-diff.ts';

/** A layer delta in a temporary file. */
export type LayerDelta = { readonly path: string; readonly digest: Digest; readonly size: number };

/** What making a layer delta takes. */
export type LayerDeltaOptions = PlanOptions & {
  readonly folder: string;
  readonly name: string;
  readonly diffId: Digest;
  readonly packing: TarDiffPacking;
  /** A delta of this size or more is of no use: it is given up as soon as it is reached. */
  readonly maxBytes: number;
  readonly signal: AbortSignal;
  readonly onProgress: (fraction: number) => void;
};

/**
 * Makes the delta of a layer in the tar-diff format and proves it by applying it. Undefined when it
 * would have `maxBytes` or more.
 */
export async function makeLayerDelta(
  layer: TargetLayer,
  options: LayerDeltaOptions,
): Promise<LayerDelta | undefined> {
  const { folder, name, signal, maxBytes } = options;
  const path = join(folder, name);
  const size = layer.spool.size;
  const chunks = packTarDiff(
    (writer) =>
      writeTarDiff(layer, options.store, planFiles(layer, options), writer, (position) => {
        signal.throwIfAborted();
        options.onProgress(position / size);
      }),
    options.packing,
  );
  const written = await writeHashed(path, chunks, maxBytes);
  if (written === undefined) {
    await rm(path);
    return undefined;
  }
  await prove(path, options);
  return { path, ...written };
}

async function writeHashed(
  path: string,
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
): Promise<Omit<LayerDelta, 'path'> | undefined> {
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
async function prove(path: string, { store, diffId, signal }: LayerDeltaOptions): Promise<void> {
  const hash = createHash('sha256');
  const delta = createReadStream(path, { highWaterMark: 256 * 1024, signal });
  for await (const { bytes } of applyTarDiff(delta, store, DEFAULT_TAR_DIFF_LIMITS)) {
    hash.update(bytes);
  }
  if (digestFromHex(hash.digest('hex')) === diffId) return;
  throw new SnapgateError('INTERNAL', `the delta of layer ${diffId} does not rebuild it`, {
    hint: 'This is a defect of the program; the image can be pulled as it is.',
  });
}
