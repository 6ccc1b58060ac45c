import type { Piece } from '../../shared/delta/piece.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { TarEntry } from '../../shared/tar/entry.ts';
import type { CloneSource, FileContent } from './file-content.ts';

/** The regular file that is being written. */
export type OpenFile = {
  readonly entry: TarEntry;
  /** Path while it is written, and its final one when that is another. */
  readonly path: string;
  readonly finalPath: string;
  readonly content: FileContent;
  /** Run of a sparse file that the next byte belongs to. */
  run: number;
  runUsed: number;
};

/** Puts the next stored bytes of a file where they belong. */
export function putPiece(
  file: OpenFile,
  { bytes, source }: Piece,
  clone: CloneSource | undefined,
): void {
  for (let at = 0; at < bytes.length; ) {
    const { offset, room } = nextPlace(file);
    const part = bytes.subarray(at, at + Math.min(room, bytes.length - at));
    const from = source && { source: { file: source.file, offset: source.offset + at } };
    file.content.put({ bytes: part, ...from }, offset, clone);
    file.runUsed += part.length;
    at += part.length;
  }
}

/** Where the next stored byte of a file goes, and how many may follow it there. */
function nextPlace(file: OpenFile): { offset: number; room: number } {
  const { sparse } = file.entry;
  if (sparse === undefined) return { offset: file.runUsed, room: Number.MAX_SAFE_INTEGER };
  let run = sparse[file.run];
  while (run !== undefined && file.runUsed >= run.length) {
    file.run += 1;
    file.runUsed = 0;
    run = sparse[file.run];
  }
  if (run === undefined) throw new SnapgateError('TAR_INVALID', 'a sparse file is too long');
  return { offset: run.offset + file.runUsed, room: run.length - file.runUsed };
}
