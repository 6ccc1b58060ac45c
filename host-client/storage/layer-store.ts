import { createHash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import * as v from 'valibot';
import { type Digest, digestHex } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { digestSchema as digest } from '../../shared/oci/manifest.ts';
import { FileLock } from '../system/file-lock.ts';
import { readIfThere, removeHalfWritten, writeFileDurably } from '../system/files.ts';

const recordSchema = v.looseObject({
  id: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  parent: v.optional(v.string()),
  'diff-digest': v.optional(digest),
  'compressed-diff-digest': v.optional(v.string()),
  flags: v.optional(v.record(v.string(), v.unknown())),
});

/** A layer in Podman's `layers.json`; fields that are not named here are kept as they are. */
export type LayerRecord = v.InferOutput<typeof recordSchema>;

/** Podman's number of a compression (containers/storage, `archive.Compression`); none has no number. */
export const COMPRESSION_NUMBERS = { none: undefined, gzip: 2, zstd: 4 } as const;

/**
 * Podman's ids of a chain of layers, base first: the first one is the digest of its tar stream, each
 * further one depends on its parent's.
 */
export function layerIds(diffIds: readonly Digest[]): string[] {
  const ids: string[] = [];
  for (const diffId of diffIds) {
    const parent = ids.at(-1);
    const hex = digestHex(diffId);
    const chain = () => createHash('sha256').update(`${parent}+${hex}`).digest('hex');
    ids.push(parent === undefined ? hex : chain());
  }
  return ids;
}

/** Podman's record of layers under a graph root, and the lock that guards it. */
export class LayerStore {
  readonly graphRoot: string;

  constructor(graphRoot: string) {
    this.graphRoot = graphRoot;
  }

  /** Where the merged tree of a layer is. */
  subvolume(id: string): string {
    return join(this.graphRoot, 'btrfs', 'subvolumes', id);
  }

  /** Where the tar-split record of a layer is. */
  tarSplit(id: string): string {
    return join(this.#folder, `${id}.tar-split.gz`);
  }

  get #folder(): string {
    return join(this.graphRoot, 'btrfs-layers');
  }

  /** All layers that are finished, by id. Throws STORAGE_INVALID. */
  async read(): Promise<Map<string, LayerRecord>> {
    const records = await this.#readAll();
    return new Map(
      records.filter((record) => !record.flags?.incomplete).map((record) => [record.id, record]),
    );
  }

  async #readAll(): Promise<LayerRecord[]> {
    const path = join(this.#folder, 'layers.json');
    const text = await readIfThere(path);
    if (text === undefined) return [];
    try {
      return v.parse(v.array(recordSchema), JSON.parse(text));
    } catch (cause) {
      throw new SnapgateError('STORAGE_INVALID', 'Podman’s record of layers is not as expected', {
        where: path,
        hint: 'Update snaphost, or run the update with --full.',
        cause,
      });
    }
  }

  /** Takes the lock that Podman holds while it changes layers. Throws STORAGE_BUSY, CANCELLED. */
  async lock(timeoutMs: number, signal?: AbortSignal): Promise<LockedLayers> {
    const path = join(this.#folder, 'layers.lock');
    const busy = () =>
      new SnapgateError(
        'STORAGE_BUSY',
        `Podman kept its storage locked for ${timeoutMs / 1000} s`,
        {
          where: path,
          hint: 'Wait until the running podman pull, build or push ends, and run the update again.',
        },
      );
    const lock = await FileLock.acquire(path, { timeoutMs, signal, busy });
    try {
      await removeHalfWritten(this.#folder, 'layers.json.');
      return new LockedLayers(this, lock, await this.#readAll());
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }
}

let writes = 0;

/** The content of a lock file after a change: others compare it and read the records again. */
function lockToken(): Buffer {
  const token = randomBytes(64);
  writes += 1;
  token.writeBigUInt64LE(
    BigInt(Date.now()) * 1_000_000n + (process.hrtime.bigint() % 1_000_000n),
    0,
  );
  token.writeBigUInt64LE(BigInt(writes), 8);
  token.writeUInt32LE(process.pid, 16);
  return token;
}

/** Podman's layers while their lock is held. */
export class LockedLayers implements Disposable {
  readonly #store: LayerStore;
  readonly #lock: FileLock;
  readonly records: LayerRecord[];

  constructor(store: LayerStore, lock: FileLock, records: LayerRecord[]) {
    this.#store = store;
    this.#lock = lock;
    this.records = records;
  }

  find(id: string): LayerRecord | undefined {
    return this.records.find((record) => record.id === id);
  }

  /** Writes the records back. The token goes first: a reader then reads once too often, never too seldom. */
  async write(): Promise<void> {
    this.#lock.write(lockToken());
    const path = join(this.#store.graphRoot, 'btrfs-layers', 'layers.json');
    await writeFileDurably(path, JSON.stringify(this.records));
  }

  [Symbol.dispose](): void {
    this.#lock[Symbol.dispose]();
  }
}
