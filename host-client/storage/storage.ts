import type { Piece, SourceTree } from '../../shared/delta/piece.ts';
import type { Workspace } from '../../shared/delta/workspace.ts';
import type { Digest } from '../../shared/digest.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';

/** Ways to keep the content of files on the disk. */
export const COMPRESS = ['zstd', 'none'] as const;
export type Compress = (typeof COMPRESS)[number];

/** An image in Podman's storage. */
export type HeldImage = {
  /** Digest of the image config; its hex digits are Podman's image id. */
  readonly config: Digest;
  /** Digest of the manifest that it was published with, where storage kept one. */
  readonly manifest: Digest | undefined;
  /** Full names, `host/repository:tag`, newest first; empty for an image without a name. */
  readonly names: readonly string[];
  /** Layers from the base to the top, named by the digest of their tar streams. */
  readonly diffIds: readonly Digest[];
  /** Podman's ids of the same layers, which are the names of their subvolumes. */
  readonly layerIds: readonly string[];
  /** When it came into storage: ISO 8601, as Podman writes it. */
  readonly created: string | undefined;
};

/** A layer of the image that is being put into storage. */
export type LayerSource = {
  /** Digest of the tar stream; what is rebuilt must have it. */
  readonly diffId: Digest;
  /** The layer as the manifest names it, compressed or not. */
  readonly blob: Descriptor;
};

/** What building a layer cost, in bytes of file content. */
export type LayerResult = {
  readonly layerId: string;
  /** Size of the tar stream. */
  readonly tarBytes: number;
  /** Content written to disk. */
  readonly bytesWritten: number;
  /** Content shared with files that were there. */
  readonly bytesCloned: number;
};

/** An image with all its layers. */
export type WholeImage = {
  readonly manifest: StoredManifest;
  readonly config: Uint8Array;
  /** The file of each layer's blob, by its digest in the manifest. */
  readonly layers: ReadonlyMap<Digest, string>;
  /** Full name with a tag. */
  readonly name: string;
  readonly signal?: AbortSignal;
};

/**
 * Podman's storage on btrfs. Reading it takes no lock and changes nothing. An update goes:
 *
 * ```ts
 * const held = await storage.listImages();
 * await using transaction = await storage.begin({ layers, signal });
 * using source = storage.openSource(held[0]);
 * for (const layer of transaction.missing) await transaction.addLayer(layer, tarOf(layer, source));
 * const image = await transaction.commit({ manifest, config, name });
 * ```
 *
 * where `tarOf` is the tar stream of a layer: a full blob unpacked, a delta applied to `source`, or
 * `storage.reassembleLayer(...)`. Pieces whose `source` came from `openSource` or `reassembleLayer`
 * share their extents with the held image; all others are written.
 */
export type Storage = {
  /** Podman's graph root (`/var/lib/containers/storage`). */
  readonly graphRoot: string;
  readonly runRoot: string;
  /** The folder for the client's own files on the same file system: staging, journal, lock. */
  readonly workDir: string;
  /**
   * Whether layers may be put into this storage one by one; otherwise why not, and then only
   * {@link Storage.importImage} may be used.
   */
  checkSupport(
    signal?: AbortSignal,
  ): Promise<{ supported: true } | { supported: false; reason: string }>;
  /** All images whose layers are all there. Throws STORAGE_INVALID. */
  listImages(): Promise<HeldImage[]>;
  /** The manifest that an image was published with, byte for byte. Throws STORAGE_INVALID. */
  readManifest(image: HeldImage): Promise<StoredManifest>;
  /** The config of an image, byte for byte. Throws STORAGE_INVALID. */
  readConfig(image: HeldImage): Promise<Uint8Array>;
  /** Room for what is kept while a delta is applied. */
  readonly workspace: Workspace;
  /**
   * The merged root of an image as the source of a delta, with the headers of its layers. Close it
   * after the last layer.
   */
  openSource(image: HeldImage): SourceTree & Disposable;
  /** How many layers of a chain, counted from its base, are in storage: what a plan may rely on. */
  presentDepth(diffIds: readonly Digest[]): Promise<number>;
  /** Whether a layer with this tar stream is held, on whatever parent. */
  holdsLayer(diffId: Digest): Promise<boolean>;
  /**
   * The tar stream of a layer that is held, on whatever parent, rebuilt from Podman's own record of
   * it. Throws STORAGE_INVALID when no such layer is held or its files are gone; whether the bytes
   * are right shows when the layer is added.
   */
  reassembleLayer(diffId: Digest): AsyncIterable<Piece>;
  /**
   * Takes the client's lock, removes what an interrupted run left, and makes room for new layers.
   * Throws ALREADY_RUNNING, STORAGE_BUSY, NOT_BTRFS.
   */
  begin(options: BeginOptions): Promise<ImageTransaction>;
  /**
   * Removes what an interrupted run left, where no transaction follows; cheap when that is nothing.
   * Throws like {@link Storage.begin}.
   */
  tidy(signal?: AbortSignal): Promise<void>;
  /**
   * Hands Podman a whole image: the way for a storage that {@link Storage.checkSupport} does not
   * know. Throws COMMAND_FAILED, NO_SPACE.
   */
  importImage(image: WholeImage): Promise<HeldImage>;
  /** Gives an image one more name; an image that had it loses it. */
  addName(image: HeldImage, name: string): Promise<void>;
  /**
   * Removes an image and the layers that no other image uses, and what an interrupted run left. Throws
   * COMMAND_FAILED when it is in use, and like {@link Storage.begin}.
   */
  removeImage(image: HeldImage): Promise<void>;
  /** Where the merged tree of a layer is: a read-write subvolume that nobody must write to. */
  subvolumeOf(layerId: string): string;
};

export type BeginOptions = {
  /** All layers of the image, base first. */
  readonly layers: readonly LayerSource[];
  readonly signal?: AbortSignal;
  /** How long to wait for Podman to release its lock, in milliseconds; 10 minutes when absent. */
  readonly lockTimeoutMs?: number;
  /** Called now and then with the bytes of tar stream read since the transaction began. */
  readonly onProgress?: (tarBytes: number) => void;
};

/**
 * An image on its way into storage. Until {@link ImageTransaction.commit} returns, Podman sees
 * nothing of it; disposing of it without a commit leaves nothing behind.
 */
export type ImageTransaction = AsyncDisposable & {
  /** The layers that are not in storage, in the order in which they must be added. */
  readonly missing: readonly LayerSource[];
  /**
   * Builds the next missing layer on top of those before it. Throws DIFF_ID_MISMATCH, TAR_INVALID,
   * LIMIT_EXCEEDED, NO_SPACE and whatever the stream throws; nothing of the layer is left then, and
   * the same layer may be added again from another stream.
   */
  addLayer(layer: LayerSource, tar: AsyncIterable<Piece>): Promise<LayerResult>;
  /**
   * Registers the layers and then the image, with its original manifest and config bytes, and
   * returns when both are safe on disk. Throws STORAGE_BUSY, STORAGE_INVALID, COMMAND_FAILED.
   */
  commit(image: {
    readonly manifest: StoredManifest;
    readonly config: Uint8Array;
    /** Full names with a tag: `host/repository:tag`. */
    readonly names: readonly [string, ...string[]];
    /**
     * Called when what the layers were built from is needed no more. What it removes of this file
     * system is gone as durably as the layers are there, and no sooner.
     */
    readonly onPlaced?: () => Promise<void>;
  }): Promise<HeldImage>;
};
