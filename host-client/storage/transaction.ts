import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Piece } from '../../shared/delta/piece.ts';
import { type Digest, digestHex, sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { FileLock } from '../system/file-lock.ts';
import { removeHalfWritten } from '../system/files.ts';
import { receivesPacked, syncFileSystem } from './btrfs.ts';
import { writeImageFolder } from './image-folder.ts';
import type { ImageStore } from './image-store.ts';
import { Journal } from './journal.ts';
import { type BuiltLayer, buildLayer, type ParentLayer } from './layer-builder.ts';
import { type ChainLayer, registerLayers, removeUnused } from './layer-registration.ts';
import { type LayerStore, layerIds } from './layer-store.ts';
import type { Podman } from './podman.ts';
import { Staging } from './staging.ts';
import type {
  BeginOptions,
  HeldImage,
  ImageTransaction,
  LayerResult,
  LayerSource,
} from './storage.ts';
import { PARTS } from './work-files.ts';

const LOCK_TIMEOUT_MS = 10 * 60 * 1000;

/** What a transaction works on. */
export type TransactionParts = {
  readonly workDir: string;
  readonly layers: LayerStore;
  readonly images: ImageStore;
  readonly podman: Podman;
  /** Whether new content is compressed, where the machine can do that. */
  readonly compress: boolean;
};

/** Puts one image into storage; see {@link ImageTransaction}. */
export class Transaction implements ImageTransaction {
  readonly missing: readonly LayerSource[];
  readonly #parts: TransactionParts;
  readonly #options: BeginOptions;
  readonly #lock: FileLock;
  readonly #journal: Journal;
  readonly #staging: Staging;
  readonly #ids: readonly string[];
  /** Layers that an interrupted run registered and this image needs. */
  readonly #adopted: readonly string[];
  readonly #built: BuiltLayer[] = [];
  #tarBytes = 0;

  private constructor(
    parts: TransactionParts,
    options: BeginOptions,
    started: { lock: FileLock; journal: Journal; staging: Staging; adopted: readonly string[] },
    depth: number,
  ) {
    this.#parts = parts;
    this.#options = options;
    this.#lock = started.lock;
    this.#journal = started.journal;
    this.#staging = started.staging;
    this.#adopted = started.adopted;
    this.#ids = layerIds(options.layers.map((layer) => layer.diffId));
    this.missing = options.layers.slice(depth);
  }

  /** See `Storage.begin`. */
  static async begin(parts: TransactionParts, options: BeginOptions): Promise<Transaction> {
    const { workDir, layers, compress } = parts;
    const { signal } = options;
    await mkdir(workDir, { recursive: true, mode: 0o700 });
    const busy = () =>
      new SnapgateError('ALREADY_RUNNING', 'another update of this machine is running', {
        where: workDir,
        hint: 'Wait until it ends; snaphost status shows how far it is.',
      });
    const lock = await FileLock.acquire(join(workDir, 'lock'), { timeoutMs: 0, busy });
    try {
      const folder = join(workDir, 'staging');
      const version = compress && (await receivesPacked({ signal })) ? 2 : 1;
      const staging = new Staging(folder, (id) => layers.subvolume(id), signal, version);
      await staging.clear();
      // A file that was made and has not lost its name yet.
      await rm(join(workDir, PARTS), { recursive: true, force: true });
      await removeHalfWritten(workDir);
      const journal = new Journal(join(workDir, 'journal.json'));
      const adopted = await recover(parts, journal, options);
      const depth = await presentDepth(
        layers,
        options.layers.map((layer) => layer.diffId),
      );
      return new Transaction(parts, options, { lock, journal, staging, adopted }, depth);
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  get #depth(): number {
    return this.#options.layers.length - this.missing.length;
  }

  async addLayer(layer: LayerSource, tar: AsyncIterable<Piece>): Promise<LayerResult> {
    const at = this.#depth + this.#built.length;
    const layerId = this.#ids[at];
    if (layerId === undefined || this.#options.layers[at]?.diffId !== layer.diffId) {
      throw new SnapgateError('INTERNAL', `layer ${layer.diffId} is not the next one`);
    }
    const { onProgress } = this.#options;
    const onBytes = (bytes: number) => {
      this.#tarBytes += bytes;
      onProgress?.(this.#tarBytes);
    };
    const parent = await this.#parentOf(at);
    const { diffId } = layer;
    const built = await buildLayer({ staging: this.#staging, diffId, parent, tar, onBytes });
    this.#built.push(built);
    const { tarBytes, bytesWritten, bytesCloned } = built;
    return { layerId, tarBytes, bytesWritten, bytesCloned };
  }

  async #parentOf(at: number): Promise<ParentLayer | undefined> {
    const built = this.#built.at(-1);
    if (built !== undefined) return { folder: built.path, uuid: built.uuid };
    const id = this.#ids[at - 1];
    if (id === undefined) return undefined;
    return { folder: this.#parts.layers.subvolume(id), uuid: await this.#staging.uuidOf(id) };
  }

  async commit(image: Parameters<ImageTransaction['commit']>[0]): Promise<HeldImage> {
    if (this.#built.length < this.missing.length) {
      throw new SnapgateError('INTERNAL', 'layers of the image were not added');
    }
    const { layers, images, podman } = this.#parts;
    const fresh = this.#ids.slice(this.#depth);
    await this.#journal.write([...this.#adopted, ...fresh]);
    await this.#register(image.onPlaced);
    const config = sha256(image.config);
    const [name, ...names] = image.names;
    try {
      const folder = join(this.#staging.folder, 'image');
      await writeImageFolder(folder, image.manifest, image.config);
      const { signal } = this.#options;
      await podman.copyFromFolder(folder, name, { signal });
      if (names.length > 0) await podman.run(['tag', digestHex(config), ...names], { signal });
    } catch (error) {
      await this.#withdraw([...this.#adopted, ...fresh]);
      throw error;
    }
    await syncFileSystem(layers.graphRoot);
    await this.#journal.write([]);
    const held = (await images.list(await layers.read())).find((found) => found.config === config);
    if (held !== undefined) return held;
    throw new SnapgateError('STORAGE_INVALID', 'the image is not in storage after it was copied', {
      where: name,
      hint: 'Somebody may have removed it at this moment: run the update again.',
    });
  }

  /**
   * Has Podman remove an image and the layers that no other one uses. A power cut may keep its record of
   * that and lose the rest, so the journal names the layers until all is on the disk. Throws
   * COMMAND_FAILED when the image is in use.
   */
  async remove(image: HeldImage): Promise<void> {
    await this.#journal.write(image.layerIds);
    await this.#parts.podman.removeImage(digestHex(image.config), image.names);
    await syncFileSystem(this.#parts.layers.graphRoot);
    await this.#journal.write([]);
  }

  async #register(onPlaced?: () => Promise<void>): Promise<void> {
    const chain: ChainLayer[] = this.#options.layers.map((source, i) => ({
      ...{ id: this.#ids[i] as string, source, built: this.#built[i - this.#depth] },
    }));
    using locked = await this.#lockLayers();
    await registerLayers(this.#parts.layers, locked, chain, onPlaced);
  }

  #lockLayers() {
    const { lockTimeoutMs = LOCK_TIMEOUT_MS, signal } = this.#options;
    return this.#parts.layers.lock(lockTimeoutMs, signal);
  }

  /** Takes back layers whose image did not come to be. What cannot be removed now is at the next start. */
  async #withdraw(ids: readonly string[]): Promise<void> {
    try {
      using locked = await this.#parts.layers.lock(LOCK_TIMEOUT_MS);
      const { layers, images } = this.#parts;
      await this.#journal.write(await removeUnused(layers, images, locked, ids));
    } catch {
      // The journal still names them.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.#staging.clear();
    } finally {
      this.#lock[Symbol.dispose]();
    }
  }
}

/** How many layers of a chain, from its base, are in storage. */
export async function presentDepth(store: LayerStore, diffIds: readonly Digest[]): Promise<number> {
  const records = await store.read();
  const ids = layerIds(diffIds);
  const first = ids.findIndex((id, i) => records.get(id)?.['diff-digest'] !== diffIds[i]);
  return first < 0 ? ids.length : first;
}

/**
 * Removes what an interrupted run left in Podman's storage. Layers that are whole and belong to the
 * image that is wanted now are kept; returns their ids.
 */
async function recover(
  { layers, images }: TransactionParts,
  journal: Journal,
  options: BeginOptions,
): Promise<string[]> {
  const ids = await journal.read();
  if (ids.length === 0) return [];
  const wanted = new Set(layerIds(options.layers.map((layer) => layer.diffId)));
  using locked = await layers.lock(options.lockTimeoutMs ?? LOCK_TIMEOUT_MS, options.signal);
  const kept = ids.filter((id) => wanted.has(id) && locked.find(id) !== undefined);
  const rest = ids.filter((id) => !kept.includes(id));
  await removeUnused(layers, images, locked, rest);
  await journal.write(kept);
  return kept;
}
