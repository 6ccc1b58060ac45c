import { SnapgateError } from '../../shared/errors.ts';
import type { TarEntry } from '../../shared/tar/entry.ts';
import { entryParts, linkParts } from './entry-path.ts';

/** With the number of the layer that put it into its folder (0: made as a parent). */
type Folder<Content> = {
  readonly kind: 'folder';
  readonly entries: Map<string, Node<Content>>;
  layer: number;
};
type Node<Content> =
  | Folder<Content>
  | { readonly kind: 'file'; readonly content: Content; readonly layer: number }
  | { readonly kind: 'symlink'; readonly target: string; readonly layer: number }
  | { readonly kind: 'other'; readonly layer: number };

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
/** Names of AUFS's own, which Podman passes over at the top of a layer. */
const AUFS = '.wh..wh.';
/** Most symbolic links followed for one path, as in Linux. */
const MAX_LINKS = 40;

/**
 * The merged root of an image: layers laid over each other as Podman does it (OCI image
 * specification, "Applying Changesets"), of which only the regular files are of interest.
 */
export class MergedTree<Content> {
  readonly #root: Folder<Content> = { kind: 'folder', entries: new Map(), layer: 0 };
  #layer = 0;

  /** Starts a layer: the entries that follow are its own. */
  beginLayer(): void {
    this.#layer += 1;
  }

  /**
   * Applies an entry; `content` stands for the content of a regular file. Throws TAR_INVALID for
   * what Podman could not unpack, and for what would lead out of the tree.
   */
  apply(entry: TarEntry, content: Content): void {
    const parts = entryParts(entry.path);
    const name = parts.pop();
    if (name === undefined) {
      if (entry.type === 'directory') return;
      throw invalid(entry.path, 'the root of a layer is no folder');
    }
    const isTop = parts.length === 0;
    if ((parts[0] ?? name).startsWith(AUFS) && !(isTop && name === OPAQUE)) return;
    const folder = this.#folder(parts, entry.path);
    if (name === OPAQUE) this.#hideBelow(folder);
    else if (name.startsWith(WHITEOUT)) whiteOut(folder, name, entry.path);
    else this.#put(folder, name, entry, content);
  }

  /** The regular files by path, in no particular order; a file of several names has several paths. */
  *files(): Generator<[path: string, content: Content]> {
    const pending: [string, Folder<Content>][] = [['', this.#root]];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      const [prefix, folder] = next;
      for (const [name, node] of folder.entries) {
        if (node.kind === 'file') yield [prefix + name, node.content];
        if (node.kind === 'folder') pending.push([`${prefix}${name}/`, node]);
      }
    }
  }

  #put(folder: Folder<Content>, name: string, entry: TarEntry, content: Content): void {
    const before = folder.entries.get(name);
    if (before?.kind === 'folder' && entry.type === 'directory') {
      before.layer = this.#layer;
      return;
    }
    // What stood here goes first: a hard link to itself finds nothing.
    folder.entries.delete(name);
    folder.entries.set(ownText(name), this.#node(entry, content));
  }

  #node(entry: TarEntry, content: Content): Node<Content> {
    const layer = this.#layer;
    switch (entry.type) {
      case 'file':
        return { kind: 'file', content, layer };
      case 'directory':
        return { kind: 'folder', entries: new Map(), layer };
      case 'symlink':
        return { kind: 'symlink', target: entry.linkPath, layer };
      case 'hardlink':
        return { ...this.#linked(entry), layer };
      default:
        return { kind: 'other', layer };
    }
  }

  #linked(entry: TarEntry): Node<Content> {
    const parts = linkParts(entry.linkPath);
    const name = parts.pop();
    const folder = name === undefined ? undefined : this.#find(parts, false);
    const node = folder?.entries.get(name ?? '');
    if (node !== undefined && node.kind !== 'folder') return node;
    throw invalid(entry.path, `a hard link leads to ${entry.linkPath}, which is no file`);
  }

  #folder(parts: readonly string[], path: string): Folder<Content> {
    const found = this.#find(parts, true);
    if (found !== undefined) return found;
    throw invalid(path, 'a tar entry stands below what is no folder');
  }

  /**
   * The folder at a path; symbolic links are followed as if the image's root were `/`. Missing
   * folders are made, except behind a symbolic link.
   */
  #find(parts: readonly string[], makes: boolean): Folder<Content> | undefined {
    const pending = [...parts].reverse();
    const trail: Folder<Content>[] = [this.#root];
    let links = 0;
    for (let part = pending.pop(); part !== undefined; part = pending.pop()) {
      if (part === '' || part === '.') continue;
      if (part === '..') {
        if (trail.length > 1) trail.pop();
        continue;
      }
      const node = childOf(trail.at(-1) as Folder<Content>, part, makes && links === 0);
      if (node?.kind === 'folder') {
        trail.push(node);
        continue;
      }
      if (node?.kind !== 'symlink' || links >= MAX_LINKS) return undefined;
      links += 1;
      if (node.target.startsWith('/')) trail.length = 1;
      pending.push(...node.target.split('/').reverse());
    }
    return trail.at(-1);
  }

  /** Removes what lower layers put into a folder; what this layer put there stays. */
  #hideBelow(folder: Folder<Content>): void {
    const pending = [folder];
    for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
      for (const [name, node] of next.entries) {
        if (node.layer !== this.#layer) next.entries.delete(name);
        else if (node.kind === 'folder') pending.push(node);
      }
    }
  }
}

function childOf<Content>(
  folder: Folder<Content>,
  name: string,
  makes: boolean,
): Node<Content> | undefined {
  const found = folder.entries.get(name);
  if (found !== undefined || !makes) return found;
  const node: Node<Content> = { kind: 'folder', entries: new Map(), layer: 0 };
  folder.entries.set(ownText(name), node);
  return node;
}

/** The same text, which does not hold on to the longer one that it was cut from. */
function ownText(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1');
}

function whiteOut<Content>(folder: Folder<Content>, name: string, path: string): void {
  const hidden = name.slice(WHITEOUT.length);
  if (hidden === '' || hidden === '.' || hidden === '..') {
    throw invalid(path, 'a whiteout names no file');
  }
  folder.entries.delete(hidden);
}

function invalid(where: string, message: string): SnapgateError {
  return new SnapgateError('TAR_INVALID', message, { where });
}
