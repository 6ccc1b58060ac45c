import { join } from 'node:path';
import type { Piece, SourceFile, SourceTree } from '../../shared/delta/piece.ts';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { TarEntry } from '../../shared/tar/entry.ts';
import { readTar } from '../../shared/tar/reader.ts';
import type { ContentIndex } from './content-index.ts';
import type { ContentFacts } from './describe.ts';
import { describeLayers } from './describe-layers.ts';
import { EntryCount, type ImageSide, type LayerLimits, openLayer } from './image-side.ts';
import { MergedTree } from './merged-tree.ts';
import { HeaderSpooler, SourceHeaders } from './source-headers.ts';
import { type DiskBudget, SpoolFile, SpoolWriter } from './spool-file.ts';
import type { WorkerPool } from './worker-pool.ts';

/** Largest sparse file that is a source, in bytes: its zeros are hashed like other content. */
const MAX_SPARSE_BYTES = 1024 ** 3;

/** The content of one or several regular files of the source image. */
export type SourceContent = {
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
  /** Most entries of an image, or of a layer of the target. */
  readonly maxEntries: number;
  /** Where facts of contents are kept, if they are. */
  readonly index?: ContentIndex | undefined;
  readonly signal: AbortSignal;
  /** Takes packed bytes as they are read. */
  readonly onRead: (bytes: number) => void;
};

type Placed = { offset: number; size: number; diffId: Digest; place?: number };

/**
 * The regular files of an image's merged root, in one temporary file, with what is needed to choose
 * among them. As a source tree it proves a delta before it is published.
 */
export class SourceStore implements SourceTree {
  /** By path in the merged root, in the order of paths. */
  readonly files: ReadonlyMap<string, SourceContent>;
  readonly spool: SpoolFile;
  readonly headers: SourceHeaders;

  private constructor(
    files: ReadonlyMap<string, SourceContent>,
    spool: SpoolFile,
    headers: SourceHeaders,
  ) {
    this.files = files;
    this.spool = spool;
    this.headers = headers;
  }

  /** Reads all layers of an image. Throws TAR_INVALID, LIMIT_EXCEEDED and what reading throws. */
  static async build(image: ImageSide, options: SourceStoreOptions): Promise<SourceStore> {
    const path = join(options.folder, 'source');
    const headersPath = join(options.folder, 'source-headers');
    const writer = await SpoolWriter.create(path, options.budget);
    const headersWriter = await SpoolWriter.create(headersPath, options.budget);
    const spooler = new HeaderSpooler(headersWriter);
    const tree = new MergedTree<Placed>();
    const entries = new EntryCount(options.maxEntries);
    try {
      for (const index of image.manifest.layers.keys()) {
        tree.beginLayer();
        const diffId = image.config.rootfs.diff_ids[index] as Digest;
        const headers = spooler.layer(diffId);
        await addLayer(tree, writer, headers, { image, index, diffId, entries }, options);
        headers.end();
      }
      await writer.close();
      await headersWriter.close();
    } catch (thrown) {
      await writer.abandon();
      await headersWriter.abandon();
      throw thrown;
    }
    const files = [...tree.files()].filter(([, placed]) => placed.offset >= 0);
    files.sort(([a], [b]) => (a < b ? -1 : 1));
    const placed = [...new Set(files.map(([, content]) => content))];
    const facts = await describeLayers(options.pool, options.index, path, placed);
    const contents = new Map(
      placed.map((at, i) => {
        const { offset, size } = at;
        return [at, { offset, size, facts: facts[i] as ContentFacts }];
      }),
    );
    return new SourceStore(
      new Map(files.map(([name, at]) => [name, contents.get(at) as SourceContent])),
      new SpoolFile(path),
      new SourceHeaders(headersPath, spooler.stretches, options.limits.tar.maxEntries),
    );
  }

  open(path: string): SourceFile {
    const content = this.files.get(path);
    if (content === undefined) {
      throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'there is no such file in the source', {
        where: path,
      });
    }
    const { offset: start, size } = content;
    return {
      ...{ path, size },
      read: (target, offset) => {
        const count = Math.max(0, Math.min(target.length, size - offset));
        this.spool.read(target.subarray(0, count), start + offset);
        return count;
      },
    };
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
  readonly diffId: Digest;
  readonly entries: EntryCount;
};

async function addLayer(
  tree: MergedTree<Placed>,
  writer: SpoolWriter,
  headers: ReturnType<HeaderSpooler['layer']>,
  { image, index, diffId, entries }: SourceLayer,
  options: SourceStoreOptions,
): Promise<void> {
  let contents = 0;
  let entry: TarEntry | undefined;
  const nowhere: Placed = { offset: -1, size: 0, diffId };
  let placed = nowhere;
  const finish = () => (placed.offset < 0 ? undefined : writer.skipTo(placed.offset + placed.size));
  const { limits, signal, onRead } = options;
  for await (const event of readTar(
    pieces(openLayer(image, index, limits, signal, onRead)),
    limits.tar,
  )) {
    await headers.take(event);
    if (event.kind === 'entry') {
      await finish();
      entries.add();
      entry = event.entry;
      placed = { offset: keeps(entry) ? writer.position : -1, size: entry.realSize, diffId };
      if (hasContent(entry)) {
        // What a sparse file is stored as is not what it holds.
        if (entry.sparse === undefined) placed.place = contents;
        contents += 1;
      }
      tree.apply(entry, placed);
      if (entry.type !== 'file') placed = nowhere;
    } else if (event.kind === 'content' && entry !== undefined && placed.offset >= 0) {
      await addContent(writer, entry, placed.offset, event.offset, event.piece.bytes);
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
