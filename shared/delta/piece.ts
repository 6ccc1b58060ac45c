import type { Digest } from '../digest.ts';

/**
 * A run of a rebuilt tar stream. `bytes` are the stream's own bytes, always present, so that the
 * stream can be hashed. Where they were copied unchanged from a file of the source tree, `source`
 * says from where, so that a writer can share the extent instead of writing the bytes again.
 *
 * The buffer may be reused by the producer as soon as the next piece is asked for.
 */
export type Piece = {
  readonly bytes: Uint8Array;
  readonly source?: { readonly file: SourceFile; readonly offset: number };
};

/** An open regular file of the source tree. */
export type SourceFile = {
  /** Path inside the source tree: relative, `/`-separated, no `.`, `..` or empty parts. */
  readonly path: string;
  /** Size in bytes. */
  readonly size: number;
  /** Reads into `target` from `offset` (bytes); returns how many were read, 0 at the end. */
  read(target: Uint8Array, offset: number): number;
};

/**
 * The files that a delta may copy from: the merged root of the source image. Paths come from an
 * untrusted delta: an implementation confines them to the tree, follows no symbolic link out of it,
 * and opens regular files only. Throws DELTA_SOURCE_MISMATCH when there is no such file.
 */
export type SourceTree = {
  open(path: string): SourceFile;
  /**
   * The header stream of a layer of the source image (FORMAT.md section 1): its tar stream without
   * the contents of its regular files, which Podman keeps as tar-split. Throws
   * DELTA_SOURCE_MISMATCH when it is not there; absent where none ever is.
   */
  openHeaders?(layer: Digest): Promise<SourceFile>;
  /** Hears of a file that is likely to be read soon; does nothing about one that is not there. */
  expect?(path: string): void;
  close(): void;
};
