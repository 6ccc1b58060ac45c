/** What stands at a path of a configuration tree, as far as a merge compares it. Times do not count. */
export type EtcEntry = {
  readonly type: 'file' | 'directory' | 'symlink' | 'other';
  /** Permission bits, 0 to 0o7777; 0 for a symlink. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** sha256 of a file's content in hex, the target of a symlink, the device number of what is other. */
  readonly content: string;
};

/** A tree: entries by path relative to its root, one byte a character (latin1). */
export type EtcTree = ReadonlyMap<string, EtcEntry>;

/** Whether two entries are alike; two that are missing are. */
export function sameEntry(a: EtcEntry | undefined, b: EtcEntry | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.type === b.type &&
    a.mode === b.mode &&
    a.uid === b.uid &&
    a.gid === b.gid &&
    a.content === b.content
  );
}
