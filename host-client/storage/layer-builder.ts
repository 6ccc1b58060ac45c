import { createHash } from 'node:crypto';
import type { Piece } from '../../shared/delta/piece.ts';
import { type Digest, digestFromHex } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { TarEntry } from '../../shared/tar/entry.ts';
import { readTar, type TarEvent } from '../../shared/tar/reader.ts';
import { PackingWriter, PlainWriter } from './content-writer.ts';
import { FolderTree } from './parent-tree.ts';
import type { Receiver, StagedSubvolume, Staging } from './staging.ts';
import { TarSplitFile } from './tar-split-file.ts';
import { LayerTranslator } from './translator.ts';

/** A layer that was built but is not registered. */
export type BuiltLayer = StagedSubvolume & {
  /** Where its tar-split record waits. */
  readonly tarSplitPath: string;
  readonly tarBytes: number;
  readonly bytesWritten: number;
  readonly bytesCloned: number;
  /** Owners and groups of its entries, in ascending order. */
  readonly uids: readonly number[];
  readonly gids: readonly number[];
};

/** What a layer is built on: its finished tree, and the UUID of that subvolume. */
export type ParentLayer = { readonly folder: string; readonly uuid: Buffer };

/**
 * Builds one layer from its tar stream. Throws DIFF_ID_MISMATCH when the stream is not the one that
 * `diffId` names, and whatever reading, translating or receiving it throws; then nothing is left.
 */
export async function buildLayer(options: {
  readonly staging: Staging;
  readonly diffId: Digest;
  readonly parent: ParentLayer | undefined;
  readonly tar: AsyncIterable<Piece>;
  readonly onBytes: (bytes: number) => void;
}): Promise<BuiltLayer> {
  const { staging, diffId, parent } = options;
  const receiver = staging.receive('layer');
  const record = new TarSplitFile(`${receiver.path}.tar-split.gz`);
  try {
    if (parent === undefined) receiver.create();
    else receiver.snapshotOf(parent.uuid);
    const tree = parent === undefined ? undefined : new FolderTree(parent.folder);
    const writer = new (staging.streamVersion === 2 ? PackingWriter : PlainWriter)(receiver.add);
    const translator = new LayerTranslator(tree, receiver.add, staging.findClone, writer);
    const tar = new HashedPieces(options.tar, options.onBytes);
    const owners = new Owners();
    for await (const event of readTar(tar)) {
      if (event.kind === 'entry') owners.add(event.entry);
      // Most events need no waiting, and there are very many.
      const waits = step(event, translator, receiver, record);
      if (waits !== undefined) await waits;
    }
    translator.finish();
    tar.check(diffId);
    await record.finish();
    const subvolume = await receiver.keep();
    return {
      ...subvolume,
      ...{ tarSplitPath: record.path, tarBytes: tar.size },
      ...{ bytesWritten: writer.bytesWritten, bytesCloned: translator.bytesCloned },
      ...owners.sorted(),
    };
  } catch (error) {
    await Promise.allSettled([receiver.discard(), record.discard()]);
    throw error;
  }
}

function step(
  event: TarEvent,
  translator: LayerTranslator,
  receiver: Receiver,
  record: TarSplitFile,
): Promise<unknown> | undefined {
  const recorded = record.handle(event);
  recorded?.catch(() => undefined); // Seen again below, or when the record is ended.
  const translated = translator.handle(event);
  if (translated !== undefined) return translated.then(() => receiver.flush()).then(() => recorded);
  const sent = receiver.flush();
  return sent === undefined ? recorded : sent.then(() => recorded);
}

/** Passes pieces on while it computes their digest. */
class HashedPieces implements AsyncIterable<Piece> {
  readonly #pieces: AsyncIterable<Piece>;
  readonly #onBytes: (bytes: number) => void;
  readonly #hash = createHash('sha256');
  size = 0;

  constructor(pieces: AsyncIterable<Piece>, onBytes: (bytes: number) => void) {
    this.#pieces = pieces;
    this.#onBytes = onBytes;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Piece, void, void> {
    for await (const piece of this.#pieces) {
      this.#hash.update(piece.bytes);
      this.size += piece.bytes.length;
      this.#onBytes(piece.bytes.length);
      yield piece;
    }
  }

  check(diffId: Digest): void {
    const actual = digestFromHex(this.#hash.digest('hex'));
    if (actual === diffId) return;
    throw new SnapgateError('DIFF_ID_MISMATCH', `a layer came out as ${actual}`, {
      where: diffId,
      hint: 'Nothing of it was kept. Update with --full to fetch the layer whole.',
    });
  }
}

/** Collects the owners that Podman records of a layer, whiteouts left out. */
class Owners {
  readonly #uids = new Set<number>();
  readonly #gids = new Set<number>();

  add({ path, uid, gid }: TarEntry): void {
    if (/(^|\/)\.wh\.[^/]*\/*$/.test(path)) return;
    this.#uids.add(uid);
    this.#gids.add(gid);
  }

  sorted(): { uids: number[]; gids: number[] } {
    const ascending = (set: Set<number>) => [...set].sort((a, b) => a - b);
    return { uids: ascending(this.#uids), gids: ascending(this.#gids) };
  }
}
