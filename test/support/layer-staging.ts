import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import { receivesPacked } from '../../host-client/storage/btrfs.ts';
import { type BuiltLayer, buildLayer } from '../../host-client/storage/layer-builder.ts';
import { LayerStore, layerIds } from '../../host-client/storage/layer-store.ts';
import { Staging } from '../../host-client/storage/staging.ts';
import type { Piece } from '../../shared/delta/piece.ts';
import { type Digest, sha256 } from '../../shared/digest.ts';
import { type BtrfsMount, btrfsSkipReason, mountBtrfs } from './btrfs.ts';
import { plainPieces, programsSkipReason, putLayoutImage, TestStorage } from './podman-storage.ts';
import { describeTree } from './tree.ts';

const START = Date.now() - 5_000;

/** A file system on which layers are built, and the storage that Podman's own code fills. */
export class LayerStaging {
  /** Why there can be none here, or undefined when it can. */
  readonly skip = btrfsSkipReason() ?? programsSkipReason('skopeo');
  /** Of the send streams that layers are built by. */
  readonly version: 1 | 2;
  mount!: BtrfsMount;
  storage!: TestStorage;
  store!: LayerStore;
  staging!: Staging;
  #images = 0;

  constructor(version: 1 | 2) {
    this.version = version;
  }

  async start(): Promise<void> {
    this.mount = mountBtrfs({ sizeMiB: 2048 });
    this.storage = new TestStorage(this.mount.path);
    this.store = new LayerStore(this.storage.graphRoot);
    const folder = join(this.mount.path, 'staging');
    const subvolume = (id: string) => this.store.subvolume(id);
    this.staging = new Staging(folder, subvolume, undefined, this.version);
    await this.staging.clear();
  }

  async build(
    tar: Buffer,
    parent?: BuiltLayer,
    options: { pieces?: AsyncIterable<Piece>; diffId?: Digest } = {},
  ): Promise<BuiltLayer> {
    return buildLayer({
      staging: this.staging,
      diffId: options.diffId ?? sha256(tar),
      parent: parent && { folder: parent.path, uuid: parent.uuid },
      tar: options.pieces ?? plainPieces(tar, 700),
      onBytes: () => undefined,
    });
  }

  /** Compares what we made of each layer with what Podman's own code makes of it. */
  async compare(tars: readonly Buffer[], built: readonly BuiltLayer[]): Promise<void> {
    this.#images += 1;
    const image = await putLayoutImage(join(this.mount.path, `image-${this.#images}`), tars);
    try {
      this.storage.copyIn(image, `localhost/image:${this.#images}`);
    } catch (error) {
      // Podman alone minds when a layer removes a directory that it names.
      fc.pre(!/stderr: chtimes /.test(String(error)));
      throw error;
    }
    const { store } = this;
    const ids = layerIds(image.layers.map((layer) => layer.diffId));
    const records = await store.read();
    for (const [i, id] of ids.entries()) {
      // Podman's way into the tree touches its root.
      const describe = (folder: string) =>
        describeTree(folder, START).map((line) => line.replace(/^( \d+ \d+:\d+) \S+/, '$1'));
      expect(describe(built[i]?.path ?? '')).toEqual(describe(store.subvolume(id)));
      const recorded = records.get(id);
      expect(recorded?.uidset ?? []).toEqual(built[i]?.uids);
      expect(recorded?.gidset ?? []).toEqual(built[i]?.gids);
      expect(tarSplit(built[i]?.tarSplitPath ?? '')).toEqual(tarSplit(store.tarSplit(id)));
    }
  }
}

/** Has one ready for the tests of a group; they skip where there can be none. */
export function useLayerStaging(version: 1 | 2): LayerStaging {
  const layers = new LayerStaging(version);
  beforeAll(async () => {
    if (layers.skip === undefined) await layers.start();
  });
  afterAll(() => layers.mount?.unmount());
  beforeEach(async (ctx) => {
    ctx.skip(layers.skip !== undefined, layers.skip);
    const old = version === 2 && !(await receivesPacked());
    ctx.skip(old, 'needs Linux 6.0 and btrfs-progs 5.18');
  });
  return layers;
}

/** A record without what differs and means the same. */
function tarSplit(path: string): string[] {
  const lines = gunzipSync(readFileSync(path)).toString('utf8').trim().split('\n');
  return lines.filter((line) => !line.includes('"payload":""'));
}
