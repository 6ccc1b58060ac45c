import { createHash } from 'node:crypto';
import type {
  BeginOptions,
  HeldImage,
  ImageTransaction,
  LayerResult,
  LayerSource,
  Storage,
} from '../../host-client/storage/storage.ts';
import type { Piece, SourceTree } from '../../shared/delta/piece.ts';
import { MEMORY_WORKSPACE } from '../../shared/delta/workspace.ts';
import { type Digest, digestFromHex, sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import type { TinyImage } from './tiny-image.ts';

type Held = { image: HeldImage; manifest: StoredManifest; config: Uint8Array };

/** Podman's storage in memory: layers are tar streams, and the source of a delta is a map of files. */
export class FakeStorage implements Storage {
  readonly graphRoot: string;
  readonly runRoot = '/nowhere';
  readonly workDir: string;
  /** Chains of layers that are there, and their tar streams. */
  readonly chains = new Set<string>();
  readonly tars = new Map<Digest, Uint8Array>();
  readonly held: Held[] = [];
  /** What `openSource` reads, by path. */
  readonly files = new Map<string, Uint8Array>();
  /** What was done, in order. */
  readonly calls: string[] = [];
  unsupported: string | undefined;
  readonly workspace = MEMORY_WORKSPACE;

  constructor(folder: string) {
    this.graphRoot = folder;
    this.workDir = folder;
  }

  /** Puts an image in as Podman would have. */
  hold(image: TinyImage, names: readonly string[] = []): HeldImage {
    const diffIds = image.layers.map((layer) => layer.diffId);
    for (const layer of image.layers) this.tars.set(layer.diffId, layer.tar);
    return this.#hold(diffIds, image.stored, image.configBytes, names);
  }

  #hold(
    diffIds: readonly Digest[],
    manifest: StoredManifest,
    config: Uint8Array,
    names: readonly string[],
  ): HeldImage {
    for (const i of diffIds.keys()) this.chains.add(diffIds.slice(0, i + 1).join());
    const image: HeldImage = {
      ...{ config: sha256(config), manifest: manifest.digest, names, diffIds },
      ...{ layerIds: diffIds.map((_, i) => `layer${i}`), created: new Date(0).toISOString() },
    };
    const others = this.held.filter((one) => one.image.config !== image.config);
    this.held.splice(0, this.held.length, { image, manifest, config }, ...others);
    return image;
  }

  async checkSupport() {
    if (this.unsupported === undefined) return { supported: true as const };
    return { supported: false as const, reason: this.unsupported };
  }

  async listImages(): Promise<HeldImage[]> {
    return this.held.map(({ image }) => image);
  }

  async readManifest({ config }: HeldImage): Promise<StoredManifest> {
    return this.#find(config).manifest;
  }

  async readConfig({ config }: HeldImage): Promise<Uint8Array> {
    return this.#find(config).config;
  }

  #find(config: Digest): Held {
    const found = this.held.find(({ image }) => image.config === config);
    if (found === undefined) throw new SnapgateError('STORAGE_INVALID', 'no such image');
    return found;
  }

  openSource(): SourceTree & Disposable {
    const open = (path: string) => {
      const bytes = this.files.get(path);
      if (bytes === undefined) throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'no such file');
      const read = (target: Uint8Array, offset: number) => {
        const part = bytes.subarray(offset, offset + target.length);
        target.set(part);
        return part.length;
      };
      return { path, size: bytes.length, read };
    };
    return { open, close() {}, [Symbol.dispose]() {} };
  }

  async presentDepth(diffIds: readonly Digest[]): Promise<number> {
    const depth = diffIds.findIndex((_, i) => !this.chains.has(diffIds.slice(0, i + 1).join()));
    return depth < 0 ? diffIds.length : depth;
  }

  async holdsLayer(diffId: Digest): Promise<boolean> {
    return this.tars.has(diffId);
  }

  async *reassembleLayer(diffId: Digest): AsyncGenerator<Piece> {
    const bytes = this.tars.get(diffId);
    if (bytes === undefined) throw new SnapgateError('STORAGE_INVALID', 'no such layer');
    yield { bytes };
  }

  async begin({ layers }: BeginOptions): Promise<ImageTransaction> {
    const diffIds = layers.map((layer) => layer.diffId);
    const missing = layers.slice(await this.presentDepth(diffIds));
    const built = new Map<Digest, Uint8Array>();
    return {
      missing,
      addLayer: (layer, tar) => this.#build(layer, tar, built),
      commit: async ({ manifest, config, names, onPlaced }) => {
        this.calls.push(`commit ${names.join(' ')}`);
        await onPlaced?.();
        for (const [diffId, tar] of built) this.tars.set(diffId, tar);
        return this.#hold(diffIds, manifest, config, [...names]);
      },
      [Symbol.asyncDispose]: async () => void this.calls.push('dispose'),
    };
  }

  async #build(
    { diffId }: LayerSource,
    tar: AsyncIterable<Piece>,
    built: Map<Digest, Uint8Array>,
  ): Promise<LayerResult> {
    const chunks: Buffer[] = [];
    for await (const { bytes } of tar) chunks.push(Buffer.from(bytes));
    const whole = Buffer.concat(chunks);
    this.calls.push(`layer ${diffId}`);
    if (digestFromHex(createHash('sha256').update(whole).digest('hex')) !== diffId) {
      throw new SnapgateError('DIFF_ID_MISMATCH', 'rebuilt layer is another one');
    }
    built.set(diffId, whole);
    const size = whole.length;
    return { layerId: 'layer', tarBytes: size, bytesWritten: size, bytesCloned: 0 };
  }

  async tidy(): Promise<void> {}

  async importImage({ name }: { name: string }): Promise<HeldImage> {
    this.calls.push(`import ${name}`);
    throw new SnapgateError('COMMAND_FAILED', 'nothing is imported here');
  }

  async addName(image: HeldImage, name: string): Promise<void> {
    this.calls.push(`name ${name}`);
    const found = this.#find(image.config);
    for (const one of this.held) {
      const names = one.image.names.filter((other) => other !== name);
      one.image = { ...one.image, names };
    }
    found.image = { ...found.image, names: [name, ...found.image.names] };
  }

  async removeImage(image: HeldImage): Promise<void> {
    this.calls.push(`remove ${image.config}`);
    const at = this.held.findIndex((one) => one.image.config === image.config);
    this.held.splice(at, 1);
  }

  subvolumeOf(layerId: string): string {
    return `/subvolumes/${layerId}`;
  }
}
