/** Kinds of entries that an image layer may hold. */
export type TarEntryType =
  | 'file'
  | 'hardlink'
  | 'symlink'
  | 'char'
  | 'block'
  | 'directory'
  | 'fifo';

/** A point in time as tar and btrfs have it. */
export type TarTime = { readonly seconds: number; readonly nanoseconds: number };

/** A run of a sparse file that is stored; the rest of the file is zeros. Bytes. */
export type SparseRun = { readonly offset: number; readonly length: number };

/**
 * One entry of a tar stream, with pax and GNU extensions applied as Go's archive/tar and with it
 * Podman applies them. Names may be in any encoding: strings hold one byte per character (latin1),
 * and `Buffer.from(path, 'latin1')` gives the bytes.
 */
export type TarEntry = {
  readonly path: string;
  /** Target of a symlink or hard link; empty otherwise. */
  readonly linkPath: string;
  readonly type: TarEntryType;
  /** Permission bits with setuid, setgid and sticky, 0 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: TarTime;
  /** Bytes of content in the stream. */
  readonly size: number;
  /** Bytes of the file once it is unpacked; differs from `size` for sparse files. */
  readonly realSize: number;
  /** Where the stored bytes go, in order, for a sparse file. */
  readonly sparse: readonly SparseRun[] | undefined;
  readonly devMajor: number;
  readonly devMinor: number;
  /** Extended attributes (pax `SCHILY.xattr.*`), in the order of the stream. */
  readonly xattrs: readonly (readonly [name: string, value: Uint8Array])[];
};
