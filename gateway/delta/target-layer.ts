import { join } from 'node:path';
import type { Piece } from '../../shared/delta/piece.ts';
import type { Digest } from '../../shared/digest.ts';
import { readTar } from '../../shared/tar/reader.ts';
import { ContentTable } from './content-table.ts';
import type { ContentFacts } from './describe.ts';
import { describeLayers } from './describe-layers.ts';
import { entryParts } from './entry-path.ts';
import { GrowingNumbers } from './growing-numbers.ts';
import { EntryCount, type ImageSide, openLayer } from './image-side.ts';
import type { SourceStoreOptions } from './source-store.ts';
import { SpoolFile, SpoolWriter } from './spool-file.ts';
import { TextList } from './text-list.ts';

/** The content of a regular file where it stands in the layer's tar stream. Bytes. */
export type TargetFile = {
  readonly path: string;
  readonly offset: number;
  readonly size: number;
  readonly facts: ContentFacts;
};

/** The regular files of a layer that have content, in the order of its tar stream. */
export class TargetFiles {
  readonly #contents: ContentTable;
  readonly #paths: TextList;
  /** The entry of each. */
  readonly #entries: GrowingNumbers;

  constructor(contents: ContentTable, paths: TextList, entries: GrowingNumbers) {
    this.#contents = contents;
    this.#paths = paths;
    this.#entries = entries;
  }

  get length(): number {
    return this.#contents.length;
  }

  at(index: number): TargetFile | undefined {
    if (index >= this.length) return undefined;
    const path = this.#paths.at(this.#entries.at(index));
    const [offset, size] = [this.#contents.offset(index), this.#contents.size(index)];
    return { path, offset, size, facts: this.#contents.facts(index) };
  }
}

/** A layer of the target image as a temporary file: its tar stream, byte for byte. */
export type TargetLayer = {
  readonly spool: SpoolFile;
  readonly files: TargetFiles;
  /** Paths of all entries. */
  readonly paths: Iterable<string>;
  /** Memory that the entries take, in bytes. */
  readonly entryBytes: number;
  /** Room that its files take on the disk, in bytes: whole blocks of 4 KiB. */
  readonly installedBytes: number;
};

/**
 * Reads a layer of the target; `maxSamples` are kept of what each file is like. Throws TAR_INVALID,
 * LIMIT_EXCEEDED and what reading throws.
 */
export async function spoolTargetLayer(
  image: ImageSide,
  index: number,
  maxSamples: number,
  options: SourceStoreOptions,
): Promise<TargetLayer> {
  const path = join(options.folder, `target-${index}`);
  const writer = await SpoolWriter.create(path, options.budget);
  const paths = new TextList();
  const offsets = new GrowingNumbers(Float64Array);
  const sizes = new GrowingNumbers(Float64Array);
  const files = new GrowingNumbers(Uint32Array);
  const entries = new EntryCount(options.entries);
  let installedBytes = 0;
  try {
    let position = 0;
    for await (const event of readTar(spooled(image, index, options, writer), options.limits.tar)) {
      if (event.kind === 'content') position += event.piece.bytes.length;
      else if (event.kind !== 'entry') position += event.bytes.length;
      else {
        entries.add(event.entry.path);
        position += event.raw.length;
        const { type, size } = event.entry;
        paths.push(entryParts(event.entry.path).join('/'));
        if (type !== 'file' || size === 0) continue;
        files.push(paths.length - 1);
        offsets.push(position);
        sizes.push(size);
        installedBytes += Math.ceil(size / 4096) * 4096;
      }
    }
    await writer.close();
  } catch (thrown) {
    await writer.abandon();
    throw thrown;
  }
  const diffId = image.config.rootfs.diff_ids[index] as Digest;
  const contents = new ContentTable(files.length, maxSamples);
  for (let i = 0; i < files.length; i += 1) contents.place(i, offsets.at(i), sizes.at(i));
  const { pool, index: known } = options;
  const originOf = (place: number) => ({ diffId, place });
  await describeLayers(contents, { pool, index: known, file: path, originOf });
  return {
    ...{ spool: new SpoolFile(path), files: new TargetFiles(contents, paths, files), paths },
    ...{ installedBytes, entryBytes: entries.bytes },
  };
}

/** Passes the tar stream on and writes it at the same time. */
async function* spooled(
  image: ImageSide,
  index: number,
  { limits, signal, onRead }: SourceStoreOptions,
  writer: SpoolWriter,
): AsyncGenerator<Piece, void, void> {
  for await (const bytes of openLayer(image, index, limits, signal, onRead)) {
    await writer.write(bytes);
    yield { bytes };
  }
}
