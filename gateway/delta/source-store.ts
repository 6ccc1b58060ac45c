import { join } from 'node:path';
import type { Piece, SourceFile, SourceTree } from '../../shared/delta/piece.ts';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { TarEntry } from '../../shared/tar/entry.ts';
import { readTar } from '../../shared/tar/reader.ts';
import type { ContentIndex } from './content-index.ts';
import type { ContentTable } from './content-table.ts';
import type { ContentFacts } from './describe.ts';
import { describeLayers } from './describe-layers.ts';
import { HashTable, wideHashOf } from './hash-table.ts';
import {
  EntryCount,
  type EntryLimits,
  type ImageSide,
  type LayerLimits,
  openLayer,
} from './image-side.ts';
import { MergedTree } from './merged-tree.ts';
import { ReadWindow } from './read-window.ts';
import { contentsOf, PlacedContents, type SourceFiles, sortedFiles } from './source-files.ts';
import { HeaderSpooler, SourceHeaders } from './source-headers.ts';
import { type DiskBudget, SpoolFile, SpoolWriter } from './spool-file.ts';
import type { WorkerPool } from './worker-pool.ts';

/** Largest sparse file that is a source, in bytes: its zeros are hashed like other content. */
const MAX_SPARSE_BYTES = 1024 ** 3;

/** The content of one or several regular files of the source image. */
export type SourceContent = {
  /** Its number among them. */
  readonly index: number;
  /** Where it stands in the store's file, and its size, in bytes. */
  readonly offset: number;
  readonly size: number;
  readonly facts: ContentFacts;
};

/** What building a store takes. */
export type SourceStoreOptions = {
  readonly folder: string;
  readonly budget: DiskBudget;
  readonly pool: WorkerPool;
  readonly limits: LayerLimits;
  /** For an image, and for a layer of the target. */
  readonly entries: EntryLimits;
  /** Where facts of contents are kept, if they are. */
  readonly index?: ContentIndex | undefined;
  readonly signal: AbortSignal;
  /** Takes packed bytes as they are read. */
  readonly onRead: (bytes: number) => void;
};

/**
 * The regular files of an image's merged root, in one temporary file, with what is needed to choose
 * among them. As a source tree it proves a delta before it is published.
 */
export class SourceStore implements SourceTree {
  readonly contents: ContentTable;
  readonly spool: SpoolFile;
  readonly headers: SourceHeaders;
  /** Memory that the entries take, in bytes. */
  readonly entryBytes: number;
  readonly #files: SourceFiles;
  readonly #byPath = new HashTable();
  readonly #window = new ReadWindow();

  private constructor(
    files: SourceFiles,
    contents: ContentTable,
    entryBytes: number,
    spool: SpoolFile,
    headers: SourceHeaders,
  ) {
    this.#files = files;
    this.contents = contents;
    this.entryBytes = entryBytes;
    this.spool = spool;
    this.headers = headers;
    for (let i = 0; i < files.paths.length; i += 1) {
      this.#byPath.set(wideHashOf(files.paths.at(i)), i);
    }
  }

  /** How many regular files there are, in the order of their paths. */
  get fileCount(): number {
    return this.#files.paths.length;
  }

  /** Path of a file by its number. */
  path(file: number): string {
    return this.#files.paths.at(file);
  }

  /** The number of a file's content. */
  contentOf(file: number): number {
    return this.#files.contents.at(file);
  }

  /** The number of the file at a path. */
  fileAt(path: string): number | undefined {
    const file = this.#byPath.get(wideHashOf(path));
    return file !== undefined && this.path(file) === path ? file : undefined;
  }

  content(index: number): SourceContent {
    const { contents } = this;
    const [offset, size] = [contents.offset(index), contents.size(index)];
    return { index, offset, size, facts: contents.facts(index) };
  }

  /** Reads all layers of an image. Throws TAR_INVALID, LIMIT_EXCEEDED and what reading throws. */
  static async build(image: ImageSide, options: SourceStoreOptions): Promise<SourceStore> {
    const path = join(options.folder, 'source');
    const headersPath = join(options.folder, 'source-headers');
    const writer = await SpoolWriter.create(path, options.budget);
    const headersWriter = await SpoolWriter.create(headersPath, options.budget);
    const spooler = new HeaderSpooler(headersWriter);
    const entries = new EntryCount(options.entries);
    const placed = new PlacedContents(image.config.rootfs.diff_ids);
    let files: SourceFiles;
    try {
      const tree = new MergedTree<number>();
      for (const index of image.manifest.layers.keys()) {
        tree.beginLayer();
        const headers = spooler.layer(image.config.rootfs.diff_ids[index] as Digest);
        await addLayer(tree, writer, headers, { image, index, placed, entries }, options);
        headers.end();
      }
      await writer.close();
      await headersWriter.close();
      files = sortedFiles(tree, entries);
    } catch (thrown) {
      await writer.abandon();
      await headersWriter.abandon();
      throw thrown;
    }
    const { contents, origins, numbers } = contentsOf(files, placed);
    const { pool, index } = options;
    const originOf = (i: number) => placed.origin(origins.at(i));
    await describeLayers(contents, { pool, index, file: path, originOf });
    return new SourceStore(
      { paths: files.paths, contents: numbers },
      contents,
      entries.bytes,
      new SpoolFile(path),
      new SourceHeaders(headersPath, spooler.stretches, options.limits.tar.maxEntries),
    );
  }

  open(path: string): SourceFile {
    const file = this.fileAt(path);
    if (file === undefined) {
      throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'there is no such file in the source', {
        where: path,
      });
    }
    const content = this.contentOf(file);
    const [offset, size] = [this.contents.offset(content), this.contents.size(content)];
    return this.#window.file(path, this.spool.read, { offset, size });
  }

  async openHeaders(layer: Digest): Promise<SourceFile> {
    const found = this.headers.open(layer);
    if (found !== undefined) return found;
    throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'the source has no such layer', {
      where: layer,
    });
  }

  close(): void {
    this.spool.close();
    this.headers.close();
  }
}

type SourceLayer = {
  readonly image: ImageSide;
  readonly index: number;
  readonly placed: PlacedContents;
  readonly entries: EntryCount;
};

async function addLayer(
  tree: MergedTree<number>,
  writer: SpoolWriter,
  headers: ReturnType<HeaderSpooler['layer']>,
  { image, index, placed, entries }: SourceLayer,
  options: SourceStoreOptions,
): Promise<void> {
  let contents = 0;
  let entry: TarEntry | undefined;
  /** Where the file that is read stands; -1 outside of one that is kept. */
  let start = -1;
  const finish = () =>
    entry === undefined || start < 0 ? undefined : writer.skipTo(start + entry.realSize);
  const { limits, signal, onRead } = options;
  for await (const event of readTar(
    pieces(openLayer(image, index, limits, signal, onRead)),
    limits.tar,
  )) {
    await headers.take(event);
    if (event.kind === 'entry') {
      await finish();
      entry = event.entry;
      entries.add(entry.path);
      start = entry.type === 'file' && keeps(entry) ? writer.position : -1;
      // What a sparse file is stored as is not what it holds.
      const place = hasContent(entry) && entry.sparse === undefined ? contents : undefined;
      if (hasContent(entry)) contents += 1;
      tree.apply(entry, start < 0 ? -1 : placed.add(start, entry.realSize, index, place));
    } else if (event.kind === 'content' && entry !== undefined && start >= 0) {
      await addContent(writer, entry, start, event.offset, event.piece.bytes);
    }
  }
  await finish();
}

function keeps({ sparse, realSize }: TarEntry): boolean {
  return sparse === undefined || realSize <= MAX_SPARSE_BYTES;
}

function hasContent({ type, size }: TarEntry): boolean {
  return type === 'file' && size > 0;
}

/** Writes stored bytes of a file where they belong: those of a sparse file go into its runs. */
async function addContent(
  writer: SpoolWriter,
  entry: TarEntry,
  start: number,
  offset: number,
  bytes: Uint8Array,
): Promise<void> {
  if (entry.sparse === undefined) return writer.write(bytes);
  let stored = 0;
  for (const run of entry.sparse) {
    const from = Math.max(stored, offset);
    const to = Math.min(stored + run.length, offset + bytes.length);
    if (from < to) {
      await writer.skipTo(start + run.offset + from - stored);
      await writer.write(bytes.subarray(from - offset, to - offset));
    }
    stored += run.length;
  }
}

async function* pieces(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Piece, void, void> {
  for await (const bytes of chunks) yield { bytes };
}
