import { SnapgateError } from '../../shared/errors.ts';
import type { NodeKind, ParentTree } from './parent-tree.ts';

/** Most symbolic links followed for one path, as in Linux. */
const MAX_LINKS = 40;
/** Longest name in bytes: Linux's NAME_MAX. */
const MAX_NAME_BYTES = 255;
/** Longest path inside the tree, in bytes: PATH_MAX less what stands before it while it is made. */
const MAX_PATH_BYTES = 4000;

/** What is, or is no more, at a path of the tree being built. */
export type TreeNode = {
  /** Path from the root of the tree, without links; empty for the root. */
  readonly path: string;
  readonly parent: TreeNode | undefined;
  kind: NodeKind | 'absent';
  /** Target of a symbolic link. */
  link: string;
  /** Whether a directory hands its group on to what is made in it. */
  setgid: boolean;
  /** Whether things in this directory may come from the parent layer. */
  inherits: boolean;
  /** Whether this layer made it. */
  made: boolean;
  /** Whether an entry of this layer names it; such things survive an opaque whiteout. */
  named: boolean;
  children: Map<string, TreeNode> | undefined;
};

/** What a node loses when something else takes its place. */
const GONE = { setgid: false, inherits: false, made: false, children: undefined };

/** A path that is being followed. */
type Walk = {
  readonly names: readonly string[];
  /** Names still to follow, the next one last. */
  readonly pending: string[];
  /** How many of them, counted from the next one, come from links. */
  linked: number;
  links: number;
};

/**
 * The tree of a layer while it is built: the parent layer's tree, which is read where it is needed,
 * and above it what this layer changed. Its size in memory follows the layer's entries, not the
 * parent's.
 */
export class LayerTree {
  readonly root: TreeNode;
  readonly #parent: ParentTree | undefined;

  constructor(parent: ParentTree | undefined) {
    this.#parent = parent;
    this.root = {
      ...{ path: '', parent: undefined, kind: 'directory', link: '', setgid: false },
      ...{ inherits: parent !== undefined, made: false, named: false, children: undefined },
    };
  }

  /** The thing called `name` in a directory; `absent` when there is none. */
  child(directory: TreeNode, name: string): TreeNode {
    directory.children ??= new Map();
    const known = directory.children.get(name);
    if (known !== undefined) return known;
    const path = directory.path === '' ? name : `${directory.path}/${name}`;
    const found = directory.inherits ? this.#parent?.lookup(path) : undefined;
    const node: TreeNode = {
      path,
      parent: directory,
      kind: found?.kind ?? 'absent',
      link: found?.link ?? '',
      setgid: found?.setgid ?? false,
      inherits: found?.kind === 'directory',
      made: false,
      named: false,
      children: undefined,
    };
    directory.children.set(name, node);
    return node;
  }

  /** Everything that is in a directory now. */
  list(directory: TreeNode): TreeNode[] {
    if (directory.inherits) {
      for (const name of this.#parent?.list(directory.path) ?? []) this.child(directory, name);
    }
    return [...(directory.children?.values() ?? [])].filter((node) => node.kind !== 'absent');
  }

  /** Records that this layer made something where nothing was. */
  make(node: TreeNode, kind: NodeKind, link = ''): void {
    Object.assign(node, { kind, link, ...GONE, made: true });
  }

  /** Records that nothing is there any more. */
  remove(node: TreeNode): void {
    Object.assign(node, { kind: 'absent', link: '', ...GONE });
  }

  /**
   * Follows the directories of a path, symbolic links included, as if the tree were the whole file
   * system; `missing` is asked to make a directory that is not there. Links that this very layer
   * brought are not followed, nor links out of the tree: no tool that packs a tree writes such a
   * layer. Throws TAR_INVALID.
   */
  directory(names: readonly string[], missing?: (node: TreeNode) => void): TreeNode | undefined {
    const walk: Walk = { names, pending: [...names].reverse(), linked: 0, links: 0 };
    let at = this.root;
    while (walk.pending.length > 0) {
      const name = walk.pending.pop() as string;
      const linked = walk.linked > 0;
      if (linked) walk.linked -= 1;
      if (name === '' || name === '.') continue;
      const node = name === '..' ? this.#above(at, names) : this.child(at, name);
      if (node.kind === 'absent') {
        if (missing === undefined) return undefined;
        if (linked) throw refused(names, 'goes through a symbolic link that leads nowhere');
        missing(node);
      }
      at = node.kind === 'symlink' ? this.#follow(node, at, walk) : node;
      if (at.kind !== 'directory') {
        throw refused(names, 'goes through something that is no directory');
      }
    }
    return at;
  }

  #follow(link: TreeNode, directory: TreeNode, walk: Walk): TreeNode {
    walk.links += 1;
    if (walk.links > MAX_LINKS) {
      throw refused(walk.names, 'goes through too many symbolic links');
    }
    if (link.made) throw refused(walk.names, 'goes through a symbolic link of the same layer');
    const parts = link.link.split('/');
    walk.linked += parts.length;
    walk.pending.push(...parts.reverse());
    return link.link.startsWith('/') ? this.root : directory;
  }

  #above(node: TreeNode, names: readonly string[]): TreeNode {
    if (node.parent !== undefined) return node.parent;
    throw refused(names, 'goes through a symbolic link out of the tree');
  }
}

function refused(names: readonly string[], why: string): SnapgateError {
  return new SnapgateError('TAR_INVALID', `a path of the layer ${why}`, {
    where: names.join('/').slice(0, 300),
  });
}

/**
 * The names of a path of a tar entry, without empty parts and `.`; none for the root. Throws
 * TAR_INVALID for an absolute path, for `..`, and for what Linux could not store.
 */
export function pathNames(path: string): string[] {
  const names = path.split('/').filter((name) => name !== '' && name !== '.');
  const where = { where: JSON.stringify(path.slice(0, 300)) };
  if (path.startsWith('/')) {
    throw new SnapgateError('TAR_INVALID', 'a path of the layer is absolute', where);
  }
  if (names.includes('..')) {
    throw new SnapgateError('TAR_INVALID', 'a path of the layer holds ".."', where);
  }
  if (path.length > MAX_PATH_BYTES || names.some((name) => name.length > MAX_NAME_BYTES)) {
    throw new SnapgateError('TAR_INVALID', 'a path of the layer is too long', where);
  }
  return names;
}
