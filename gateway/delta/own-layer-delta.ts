import { createReadStream } from 'node:fs';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { LayerDeltaWriter } from '../../shared/delta/layer-delta/writer.ts';
import type { Digest } from '../../shared/digest.ts';
import type { TarLimits } from '../../shared/tar/reader.ts';
import type { OwnPlans } from './own-plans.ts';
import type { ProvedEncodings } from './proved-encodings.ts';
import type { SourceStore } from './source-store.ts';
import type { TargetLayer } from './target-layer.ts';
import { type CheckpointSpacing, writeLayerDelta } from './write-layer-delta.ts';

/** What making a layer delta in the project's own format takes. */
export type OwnDeltaOptions = {
  readonly store: SourceStore;
  readonly diffId: Digest;
  /** Takes what encoders were seen to make. */
  readonly proved: ProvedEncodings;
  /** Temporary file for the body; it is removed in the end. */
  readonly bodyPath: string;
  /** zstd level, 1 to 22. */
  readonly level: number;
  /** Base-2 logarithm of each stream's window. */
  readonly windowLog: number;
  /** A delta of this size or more is of no use. */
  readonly maxBytes: number;
  readonly tarLimits: TarLimits;
  /** How far checkpoints are apart; the usual when absent. */
  readonly checkpoints?: CheckpointSpacing | undefined;
  readonly onProgress: (position: number) => void;
  /**
   * Takes what applying takes: temporary room in bytes, for parts and headers of the source, and the
   * seconds of encoders.
   */
  readonly onCost: (room: number, encodeSeconds: number) => void;
};

/**
 * Makes a layer delta in the project's own format (shared/delta/FORMAT.md) and yields it. Yields
 * nothing when it would have `maxBytes` or more.
 */
export async function* ownLayerDelta(
  layer: TargetLayer,
  plans: OwnPlans,
  options: OwnDeltaOptions,
): AsyncGenerator<Uint8Array, void, void> {
  const { store, proved, bodyPath, maxBytes, tarLimits, checkpoints, onProgress } = options;
  await plans.prepare();
  const body = await open(bodyPath, 'wx', 0o600);
  try {
    const limited = new LimitedFile(body, maxBytes);
    const writer = new LayerDeltaWriter({ ...options, hasMuchNew: plans.hasMuchNew }, (bytes) =>
      limited.write(bytes),
    );
    const headers = store.headers.references(layer.paths, tarLimits.maxEntries);
    try {
      const work = { layer, store, headers, writer, plans, proved, tarLimits, onProgress };
      await writeLayerDelta({ ...work, checkpoints });
      const output = { size: layer.spool.size, digest: options.diffId };
      const header = await writer.finish({ ...output, sourceLayers: headers.layers });
      if (limited.isOver) return;
      options.onCost(writer.temporaryBytes + headers.bytes, writer.encodeSeconds);
      yield header;
    } finally {
      writer.close();
    }
    yield* createReadStream(bodyPath, { highWaterMark: 256 * 1024 });
  } finally {
    await body.close();
    await rm(bodyPath);
  }
}

/** Writes until a limit is reached, and then nothing more. */
class LimitedFile {
  readonly #file: FileHandle;
  #left: number;

  constructor(file: FileHandle, bytes: number) {
    this.#file = file;
    this.#left = bytes;
  }

  get isOver(): boolean {
    return this.#left <= 0;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#left -= bytes.length;
    if (!this.isOver) await this.#file.writeFile(bytes);
  }
}
