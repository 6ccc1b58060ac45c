import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Piece } from '../../shared/delta/piece.ts';
import type { Workspace } from '../../shared/delta/workspace.ts';
import { type Digest, digestHex, sha256 } from '../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import { assertBtrfs, syncFileSystem } from './btrfs.ts';
import { writeImageFolder } from './image-folder.ts';
import { ImageStore } from './image-store.ts';
import { LayerFiles } from './layer-files.ts';
import { LayerStore } from './layer-store.ts';
import { Podman, type Programs, unsupportedVersion } from './podman.ts';
import { SourceImage } from './source-image.ts';
import type { BeginOptions, Compress, HeldImage, Storage, WholeImage } from './storage.ts';
import { reassembleTar } from './tar-split-file.ts';
import { presentDepth, Transaction } from './transaction.ts';
import { PARTS, workFiles } from './work-files.ts';

/** Where Podman's storage is, and which programs work on it. */
export type StorageOptions = {
  readonly graphRoot: string;
  readonly runRoot: string;
  readonly programs?: Programs;
  /** How new content is kept; `zstd`, where the machine can do that, when absent. */
  readonly compress?: Compress;
};

/** Opens Podman's storage on btrfs. Throws NOT_BTRFS, also when the folder is missing. */
export async function openStorage(options: StorageOptions): Promise<Storage> {
  const { graphRoot } = options;
  if ((await stat(graphRoot).catch(() => undefined)) === undefined) {
    throw new SnapgateError('NOT_BTRFS', 'the folder of Podman’s storage does not exist', {
      where: graphRoot,
      hint: 'Make it on a btrfs file system, or name another one.',
    });
  }
  await assertBtrfs(graphRoot);
  return new PodmanStorage(options);
}

class PodmanStorage implements Storage {
  readonly graphRoot: string;
  readonly runRoot: string;
  readonly workDir: string;
  readonly #layers: LayerStore;
  readonly #images: ImageStore;
  readonly #podman: Podman;
  readonly #compress: boolean;

  constructor({ graphRoot, runRoot, programs = {}, compress = 'zstd' }: StorageOptions) {
    this.graphRoot = graphRoot;
    this.runRoot = runRoot;
    this.workDir = join(graphRoot, 'snapgate');
    this.#layers = new LayerStore(graphRoot);
    this.#images = new ImageStore(graphRoot);
    this.#podman = new Podman(graphRoot, runRoot, programs);
    this.#compress = compress === 'zstd';
  }

  async checkSupport(signal?: AbortSignal) {
    const reason =
      unsupportedVersion(await this.#podman.version({ signal })) ?? (await this.#unreadable());
    return reason === undefined
      ? { supported: true as const }
      : { supported: false as const, reason };
  }

  async #unreadable(): Promise<string | undefined> {
    try {
      await this.listImages();
      return undefined;
    } catch (error) {
      return toSnapgateError(error).message;
    }
  }

  async listImages(): Promise<HeldImage[]> {
    return this.#images.list(await this.#layers.read());
  }

  readManifest(image: HeldImage) {
    return this.#images.readManifest(image);
  }

  readConfig(image: HeldImage) {
    return this.#images.readConfig(image);
  }

  openSource(image: HeldImage): SourceImage {
    const top = image.layerIds.at(-1);
    if (top === undefined) {
      throw new SnapgateError('STORAGE_INVALID', 'an image without layers cannot be a source', {
        where: image.config,
      });
    }
    const recordOf = (layer: Digest) => {
      const id = image.layerIds[image.diffIds.indexOf(layer)];
      return id === undefined ? undefined : this.#layers.tarSplit(id);
    };
    const files = new LayerFiles(this.#layers.subvolume(top), top);
    return new SourceImage(files, recordOf, this.workspace);
  }

  get workspace(): Workspace {
    return workFiles(join(this.workDir, PARTS));
  }

  presentDepth(diffIds: readonly Digest[]): Promise<number> {
    return presentDepth(this.#layers, diffIds);
  }

  async holdsLayer(diffId: Digest): Promise<boolean> {
    return (await this.#find(diffId)) !== undefined;
  }

  async #find(diffId: Digest): Promise<string | undefined> {
    for (const record of (await this.#layers.read()).values()) {
      if (record['diff-digest'] === diffId) return record.id;
    }
    return undefined;
  }

  async *reassembleLayer(diffId: Digest): AsyncGenerator<Piece, void, void> {
    const id = await this.#find(diffId);
    if (id === undefined) {
      throw new SnapgateError('STORAGE_INVALID', 'no such layer is held', { where: diffId });
    }
    using files = new LayerFiles(this.#layers.subvolume(id), id);
    yield* reassembleTar(this.#layers.tarSplit(id), files);
  }

  async begin(options: BeginOptions): Promise<Transaction> {
    await this.#prepare(options.signal);
    const { workDir } = this;
    const parts = { layers: this.#layers, images: this.#images, podman: this.#podman };
    return Transaction.begin({ ...parts, workDir, compress: this.#compress }, options);
  }

  async tidy(signal?: AbortSignal): Promise<void> {
    const names = (path: string): Promise<string[]> =>
      readdir(join(this.workDir, path)).catch(() => []);
    const left = [...(await names('staging')), ...(await names(PARTS)), ...(await names('import'))];
    const isJournal = (name: string) => name.startsWith('journal.json');
    if (left.length === 0 && !(await names('.')).some(isJournal)) return;
    await rm(join(this.workDir, 'import'), { recursive: true, force: true });
    await using _empty = await this.begin({
      layers: [],
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /** On a machine that never ran Podman, lets Podman make its folders. */
  async #prepare(signal: AbortSignal | undefined): Promise<void> {
    const isThere = async (path: string) => (await stat(path).catch(() => undefined)) !== undefined;
    const records = dirname(this.#layers.tarSplit('x'));
    const subvolumes = dirname(this.#layers.subvolume('x'));
    if (!(await isThere(records))) await this.#podman.run(['images', '--quiet'], { signal });
    // This one Podman makes with its first layer only.
    if (!(await isThere(subvolumes))) await mkdir(subvolumes, { recursive: true, mode: 0o700 });
  }

  async importImage(image: WholeImage): Promise<HeldImage> {
    const { manifest, config, layers, name, signal } = image;
    const folder = join(this.workDir, 'import');
    try {
      await writeImageFolder(folder, manifest, config, layers);
      await this.#podman.copyFromFolder(folder, name, { signal });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    await syncFileSystem(this.graphRoot);
    const id = sha256(config);
    const held = (await this.listImages()).find((found) => found.config === id);
    if (held !== undefined) return held;
    throw new SnapgateError('STORAGE_INVALID', 'the image is not in storage after it was copied', {
      where: name,
    });
  }

  async addName(image: HeldImage, name: string): Promise<void> {
    await this.#podman.run(['tag', digestHex(image.config), name]);
    await syncFileSystem(this.graphRoot);
  }

  async removeImage(image: HeldImage): Promise<void> {
    await using transaction = await this.begin({ layers: [] });
    await transaction.remove(image);
  }

  subvolumeOf(layerId: string): string {
    return this.#layers.subvolume(layerId);
  }
}
