import { lstatSync, readdirSync, readlinkSync, type Stats } from 'node:fs';

const S_ISGID = 0o2000;

/** What is at a path. */
export type NodeKind = 'directory' | 'file' | 'symlink' | 'other';

/** What is known of a thing in a tree. */
export type TreeItem = {
  readonly kind: NodeKind;
  /** Target of a symbolic link. */
  readonly link: string;
  /** Whether a directory hands its group on to what is made in it. */
  readonly setgid: boolean;
};

/** The finished tree of a layer, for what is built on top of it. Paths are real ones, latin1. */
export type ParentTree = {
  /** What is at a path, not following a link at its end; undefined when nothing is. */
  lookup(path: string): TreeItem | undefined;
  /** Names in a directory. */
  list(path: string): string[];
};

/** The bytes of a place in the file system below a folder; `path` holds one byte a character. */
export function placeBelow(folder: string, path: string): Buffer {
  return Buffer.concat([Buffer.from(`${folder}/`), Buffer.from(path, 'latin1')]);
}

/** A tree that is in a folder of the file system and does not change meanwhile. */
export class FolderTree implements ParentTree {
  readonly #folder: string;

  constructor(folder: string) {
    this.#folder = folder;
  }

  lookup(path: string): TreeItem | undefined {
    const place = placeBelow(this.#folder, path);
    const stats = lstatSync(place, { throwIfNoEntry: false });
    if (stats === undefined) return undefined;
    const kind = kindOf(stats);
    const link = kind === 'symlink' ? readlinkSync(place, 'latin1') : '';
    return { kind, link, setgid: (stats.mode & S_ISGID) !== 0 };
  }

  list(path: string): string[] {
    return readdirSync(placeBelow(this.#folder, path), 'latin1');
  }
}

function kindOf(stats: Stats): NodeKind {
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'symlink';
  return stats.isFile() ? 'file' : 'other';
}
