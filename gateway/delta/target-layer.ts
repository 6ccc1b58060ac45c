import { join } from 'node:path';
import type { Piece } from '../../shared/delta/piece.ts';
import type { Digest } from '../../shared/digest.ts';
import { readTar } from '../../shared/tar/reader.ts';
import type { ContentFacts } from './describe.ts';
import { describeLayers } from './describe-layers.ts';
import { entryParts } from './entry-path.ts';
import { EntryCount, type ImageSide, openLayer } from './image-side.ts';
import type { SourceStoreOptions } from './source-store.ts';
import { SpoolFile, SpoolWriter } from './spool-file.ts';

/** The content of a regular file where it stands in the layer's tar stream. Bytes. */
export type TargetFile = {
  readonly path: string;
  readonly offset: number;
  readonly size: number;
  readonly facts: ContentFacts;
};

/** A layer of the target image as a temporary file: its tar stream, byte for byte. */
export type TargetLayer = {
  readonly spool: SpoolFile;
  /** Those with content, in the order of the stream. */
  readonly files: readonly TargetFile[];
  /** Paths of all entries. */
  readonly paths: readonly string[];
  /** Room that its files take on the disk, in bytes: whole blocks of 4 KiB. */
  readonly installedBytes: number;
};

/** Reads a layer of the target. Throws TAR_INVALID, LIMIT_EXCEEDED and what reading throws. */
export async function spoolTargetLayer(
  image: ImageSide,
  index: number,
  options: SourceStoreOptions,
): Promise<TargetLayer> {
  const path = join(options.folder, `target-${index}`);
  const writer = await SpoolWriter.create(path, options.budget);
  const stretches: { path: string; offset: number; size: number }[] = [];
  const paths: string[] = [];
  const entries = new EntryCount(options.maxEntries);
  let installedBytes = 0;
  try {
    let position = 0;
    for await (const event of readTar(spooled(image, index, options, writer), options.limits.tar)) {
      if (event.kind === 'content') position += event.piece.bytes.length;
      else if (event.kind !== 'entry') position += event.bytes.length;
      else {
        entries.add();
        position += event.raw.length;
        const { type, size } = event.entry;
        const name = entryParts(event.entry.path).join('/');
        paths.push(name);
        if (type !== 'file' || size === 0) continue;
        stretches.push({ path: name, offset: position, size });
        installedBytes += Math.ceil(size / 4096) * 4096;
      }
    }
    await writer.close();
  } catch (thrown) {
    await writer.abandon();
    throw thrown;
  }
  const diffId = image.config.rootfs.diff_ids[index] as Digest;
  const contents = stretches.map(({ offset, size }, place) => ({ offset, size, diffId, place }));
  const facts = await describeLayers(options.pool, options.index, path, contents);
  const files = stretches.map((at, i) => ({ ...at, facts: facts[i] as ContentFacts }));
  return { spool: new SpoolFile(path), files, paths, installedBytes };
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
