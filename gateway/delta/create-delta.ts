import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { formatNote, type LayerFormat } from '../../shared/delta/formats.ts';
import { STREAMS } from '../../shared/delta/layer-delta/header.ts';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentWriter, StoredManifest } from '../../shared/oci/content.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import { LAYER_DELTA, TAR_DIFF } from '../../shared/oci/media-types.ts';
import type { PlanLayer } from '../../shared/plan.ts';
import { ContentIndex } from './content-index.ts';
import { artifactManifest, type DeltaPart, writeArtifact } from './delta-artifact.ts';
import { DEFAULT_EFFORT, type Effort, effortOf } from './effort.ts';
import { DEFAULT_LAYER_LIMITS, type ImageSide, type LayerLimits } from './image-side.ts';
import { giveBackMemory, keepMemorySmall } from './keep-memory-small.ts';
import { KeptRecipes } from './kept-recipes.ts';
import { makeLayerDelta } from './layer-delta.ts';
import { fullLayers, layerBytes } from './layer-plan.ts';
import { Progress } from './progress.ts';
import { SourceChooser } from './source-choice.ts';
import { SourceStore, type SourceStoreOptions } from './source-store.ts';
import { DiskBudget } from './spool-file.ts';
import { spoolTargetLayer } from './target-layer.ts';
import { WorkerPool } from './worker-pool.ts';
import type { CheckpointSpacing } from './write-layer-delta.ts';

/** What creating a delta may use. */
export type CreateResources = {
  /** Folder under which temporary files are made and removed. */
  readonly temporaryFolder: string;
  /** Most bytes of temporary files; both images stand there unpacked. Default 64 GiB. */
  readonly diskBytes?: number;
  /** Worker threads; by default one for each processor, at most four. */
  readonly workers?: number;
  /** Memory of the whole process that is kept to, in bytes. Default 1 GiB. */
  readonly memoryBytes?: number;
  readonly limits?: LayerLimits;
  /** How far checkpoints of layer deltas are apart; the usual when absent. */
  readonly checkpoints?: CheckpointSpacing;
  /** Folder that keeps what files of layers are like, for deltas to come. By default none does. */
  readonly indexFolder?: string | undefined;
  /** Time spent for fewer bytes, 1 to 9. Default 6. */
  readonly effort?: number;
};

/** Which delta to make, of what and to where. */
export type CreateDeltaOptions = CreateResources & {
  readonly source: ImageSide;
  readonly target: ImageSide;
  readonly output: ContentWriter;
  /** Format of the layer deltas. Default tar-diff. */
  readonly format?: LayerFormat;
  /** Tag for the delta in the output. */
  readonly tag?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Takes 0 to 1. */
  readonly onProgress?: (fraction: number) => void;
};

/** A delta that was made. Sizes are bytes. */
export type CreatedDelta = {
  readonly manifest: StoredManifest;
  readonly layers: readonly PlanLayer[];
  /** All that fetching the delta takes, its manifest included. */
  readonly deltaBytes: number;
  /** All that pulling the target takes on a machine that holds the source. */
  readonly fullBytes: number;
};

/** What the process takes besides: its code, heap and buffers; and what each thread has of these. */
const BASE_BYTES = 140 * 1024 * 1024;
const THREAD_BYTES = 30 * 1024 * 1024;
/** What the coders of all streams take while a layer is written. */
const CODER_BYTES = 270 * 1024 * 1024;
/** What the entries of both images may always take. */
const MIN_ENTRY_BYTES = 32 * 1024 * 1024;
/** How much of that the source may take at most, of which more is kept than of the target. */
const SOURCE_SHARE = 0.6;
const MIN_WORKER_BYTES = 24 * 1024 * 1024;
/**
 * Base-2 logarithm of the largest window; the own format has one for each of its streams. Small layers
 * get smaller ones. Of a tar-diff of 27.4 MB, 25 would save 9 kB, and the machine that unpacks holds
 * a window in memory.
 */
const MAX_WINDOW_LOG = 23;
const MIN_WINDOW_LOG = 17;
const STREAM_COUNT = { 'tar-diff': 1, snapgate: STREAMS.length } as const;
const MEDIA_TYPE = { 'tar-diff': TAR_DIFF, snapgate: LAYER_DELTA } as const;

/**
 * Makes the delta from one image to another and writes it as an artifact.
 * Each layer delta is applied and checked before anything is written. Throws DELTA_REFUSED when the
 * delta would not be smaller than pulling, and what reading and writing throw.
 */
export async function createDelta(options: CreateDeltaOptions): Promise<CreatedDelta> {
  const { source, target } = options;
  const layers = fullLayers(target.facts, [source.facts]);
  const fullBytes = layerBytes(target.facts, layers);
  if (!layers.some((layer) => layer.kind === 'full')) {
    throw refused('no layer of the target has to travel');
  }
  keepMemorySmall();
  options.signal?.throwIfAborted();
  await mkdir(options.temporaryFolder, { recursive: true });
  const folder = await mkdtemp(join(options.temporaryFolder, 'snapgate-delta-'));
  const work = new DeltaWork(options, layers, folder);
  try {
    return await work.run(fullBytes);
  } finally {
    await work.close();
    await rm(folder, { recursive: true, force: true });
  }
}

function refused(why: string): SnapgateError {
  return new SnapgateError('DELTA_REFUSED', `no delta is made: ${why}`, {
    hint: 'Pull the image as it is.',
  });
}

/** The base-2 logarithm of the window that holds so many bytes, within what is used. */
function windowLogFor(bytes: number): number {
  return Math.min(MAX_WINDOW_LOG, Math.max(MIN_WINDOW_LOG, Math.ceil(Math.log2(bytes + 1))));
}

class DeltaWork {
  readonly #options: CreateDeltaOptions;
  readonly #layers: PlanLayer[];
  readonly #folder: string;
  readonly #signal: AbortSignal;
  readonly #progress: Progress;
  readonly #pool: WorkerPool;
  /** Memory for the worker threads while nothing else takes any, in bytes. */
  readonly #room: number;
  /** What the entries of both images may take. */
  readonly #entryBytes: number;
  readonly #spooling: SourceStoreOptions;
  /** Temporary files of layer deltas by their digest. */
  readonly #deltas = new Map<Digest, string>();
  readonly #onAbort = () => void this.#pool.close(this.#signal.reason);
  readonly #format: LayerFormat;
  readonly #effort: Effort;
  #installedBytes = 0;
  #windowBytes = 0;
  #temporaryBytes = 0;
  #encodeSeconds = 0;

  constructor(options: CreateDeltaOptions, layers: PlanLayer[], folder: string) {
    this.#options = options;
    this.#layers = layers;
    this.#format = options.format ?? { kind: 'tar-diff' };
    this.#effort = effortOf(options.effort ?? DEFAULT_EFFORT);
    this.#folder = folder;
    this.#signal = options.signal ?? new AbortController().signal;
    const { memoryBytes = 1024 ** 3, limits = DEFAULT_LAYER_LIMITS } = options;
    const wanted = options.workers ?? Math.min(4, availableParallelism());
    // Half of what threads leave is for entries, or for larger searches.
    const forThreads = (memoryBytes - BASE_BYTES - CODER_BYTES) / 2;
    const fitting = Math.floor(forThreads / (MIN_WORKER_BYTES + THREAD_BYTES));
    const count = Math.max(1, Math.min(wanted, fitting));
    this.#room = memoryBytes - BASE_BYTES - count * THREAD_BYTES;
    const forEntries = this.#room - CODER_BYTES - count * MIN_WORKER_BYTES;
    this.#entryBytes = Math.max(MIN_ENTRY_BYTES, forEntries);
    this.#progress = new Progress(options.source, layers, options.onProgress);
    this.#pool = new WorkerPool(count);
    this.#signal.addEventListener('abort', this.#onAbort);
    this.#spooling = {
      ...{ folder, pool: this.#pool, signal: this.#signal },
      budget: new DiskBudget(options.diskBytes ?? 64 * 1024 ** 3),
      limits,
      entries: {
        maxEntries: limits.tar.maxEntries,
        maxEntryBytes: this.#entryBytes * SOURCE_SHARE,
      },
      index: options.indexFolder === undefined ? undefined : new ContentIndex(options.indexFolder),
      onRead: (bytes) => this.#progress.onRead(bytes),
    };
  }

  async run(fullBytes: number): Promise<CreatedDelta> {
    const { source, target, output, tag } = this.#options;
    const store = await SourceStore.build(source, this.#spooling);
    // What was read leaves much behind in V8's heap, which would grow before it is collected.
    giveBackMemory();
    const parts: DeltaPart[] = [];
    try {
      const chooser = new SourceChooser(store, this.#effort.candidates);
      for (const [index, layer] of this.#layers.entries()) {
        if (layer.kind === 'full') parts.push(await this.#part(index, store, chooser));
      }
    } finally {
      store.close();
    }
    const content = { source, target, parts, bounds: this.#bounds() };
    const manifest = artifactManifest(content);
    const wire = layerBytes(target.facts, this.#layers);
    const deltaBytes = manifest.bytes.byteLength + wire;
    if (deltaBytes >= fullBytes) {
      throw refused(`it would take ${deltaBytes} bytes, pulling takes ${fullBytes}`);
    }
    this.#signal.throwIfAborted();
    await writeArtifact(output, content, manifest, (part) => this.#openPart(part), tag);
    this.#progress.finish();
    return { manifest, layers: this.#layers, deltaBytes, fullBytes };
  }

  async close(): Promise<void> {
    this.#signal.removeEventListener('abort', this.#onAbort);
    await this.#pool.close();
  }

  /** Makes what brings one layer, and says in the plan which it is. */
  async #part(index: number, store: SourceStore, chooser: SourceChooser): Promise<DeltaPart> {
    const { target } = this.#options;
    const original = target.manifest.layers[index] as Descriptor;
    const { diffId } = this.#layers[index] as PlanLayer;
    const { maxSamples } = store.contents;
    const layer = await spoolTargetLayer(target, index, maxSamples, {
      ...this.#spooling,
      entries: {
        ...this.#spooling.entries,
        maxEntryBytes: this.#entryBytes - store.entryBytes,
      },
    });
    try {
      giveBackMemory();
      this.#installedBytes += layer.installedBytes;
      const { level } = this.#effort;
      const packing = { level, windowLog: windowLogFor(layer.spool.size) };
      const recipes = await KeptRecipes.of(this.#spooling.index, diffId);
      const made = await makeLayerDelta(layer, {
        ...{ store, chooser, pool: this.#pool },
        ...this.#memory(store.entryBytes + layer.entryBytes),
        effort: this.#effort,
        ...{ folder: this.#folder, name: `delta-${index}`, diffId, maxBytes: original.size },
        ...{ packing, signal: this.#signal },
        ...{ format: this.#format.kind, tarLimits: this.#spooling.limits.tar },
        recipes,
        machines: this.#format.kind === 'snapgate' ? this.#format.recompress : undefined,
        checkpoints: this.#options.checkpoints,
        onSpooled: (bytes) => this.#spooling.budget.take(bytes),
        onProgress: (fraction) => this.#progress.onLayer(index, fraction),
      });
      await recipes.save();
      const tarBytes = layer.spool.size;
      const to = original.digest;
      if (made === undefined) return { blob: original, to, tarBytes };
      this.#deltas.set(made.digest, made.path);
      this.#temporaryBytes = Math.max(this.#temporaryBytes, made.room);
      this.#encodeSeconds += made.encodeSeconds;
      this.#windowBytes = Math.max(this.#windowBytes, 2 ** packing.windowLog);
      this.#layers[index] = { diffId, kind: 'delta', bytes: made.size };
      const blob = {
        mediaType: MEDIA_TYPE[this.#format.kind],
        digest: made.digest,
        size: made.size,
      };
      return { blob, to, tarBytes };
    } finally {
      layer.spool.close();
      await rm(layer.spool.path);
      this.#progress.onLayer(index, 1);
    }
  }

  /** What encoders and searches may take beside so many bytes for entries. */
  #memory(entryBytes: number): { workerBytes: number; aloneBytes: number } {
    const aloneBytes = Math.max(MIN_WORKER_BYTES, this.#room - entryBytes);
    const share = Math.floor((aloneBytes - CODER_BYTES) / this.#pool.size);
    return { workerBytes: Math.max(MIN_WORKER_BYTES, share), aloneBytes };
  }

  #bounds() {
    const isDelta = this.#deltas.size > 0;
    return {
      ...(isDelta ? { format: formatNote(this.#format) } : {}),
      temporaryBytes: this.#temporaryBytes,
      installedBytes: this.#installedBytes,
      windowBytes: this.#windowBytes * STREAM_COUNT[this.#format.kind],
      ...(this.#encodeSeconds === 0 ? {} : { encodeSeconds: this.#encodeSeconds }),
    };
  }

  #openPart({ blob }: DeltaPart): AsyncIterable<Uint8Array> {
    const path = this.#deltas.get(blob.digest);
    if (path !== undefined) return createReadStream(path, { highWaterMark: 256 * 1024 });
    return this.#options.target.reader.openBlob(blob, { signal: this.#signal });
  }
}
