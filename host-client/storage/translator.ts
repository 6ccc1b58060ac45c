import type { Piece, SourceFile } from '../../shared/delta/piece.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { encodeDevice, type SendCommand } from '../../shared/send-stream/format.ts';
import type { TarEntry, TarTime } from '../../shared/tar/entry.ts';
import type { TarEvent } from '../../shared/tar/reader.ts';
import { type ContentWriter, PlainWriter } from './content-writer.ts';
import { DirectoryTimes } from './directory-times.ts';
import { type CloneSource, FileContent } from './file-content.ts';
import { LayerTree, pathNames, type TreeNode } from './layer-tree.ts';
import { type OpenFile, putPiece } from './open-file.ts';
import type { ParentTree } from './parent-tree.ts';

const WHITEOUT = '.wh.';
const WHITEOUT_META = '.wh..wh.';
const OPAQUE = '.wh..wh..opq';
/** File types of `mknod(2)`. */
const S_IFCHR = 0o020000;
const S_IFBLK = 0o060000;
const S_ISGID = 0o2000;
/** What Podman takes for the end of time: the last second that fits in 63 bits of nanoseconds. */
const LAST_SECOND = 9_223_372_036;
const MAX_ID = 0xffff_fffe;
/**
 * Extended attributes that are kept. Podman passes over those that it cannot set, and over SELinux
 * labels, which belong to the machine.
 */
const XATTRS =
  /^(user|trusted|btrfs)\.|^security\.(?!selinux$)|^system\.posix_acl_(access|default)$/;

/** Finds where a file of a delta's source can be cloned from. */
export type FindClone = (
  file: SourceFile,
) => CloneSource | undefined | Promise<CloneSource | undefined>;

/**
 * Translates a layer's tar stream into the commands of a send stream, so that the result is what
 * Podman would unpack: whiteouts, opaque whiteouts, replaced and repeated paths, links, devices,
 * times and attributes. The order of events is that of {@link readTar}; commands go to `add` at
 * once. Its first command must have been SUBVOL or SNAPSHOT of the parent.
 *
 * `btrfs receive` keeps the last file that it wrote to open by its path, also when another file is
 * there by now: so a path is never written to twice in a row, but by way of a name of its own.
 */
export class LayerTranslator {
  /** Bytes of file content that are shared. */
  bytesCloned = 0;
  readonly #tree: LayerTree;
  readonly #add: (command: SendCommand) => void;
  readonly #findClone: FindClone;
  readonly #writer: ContentWriter;
  readonly #times = new DirectoryTimes((path, time) => this.#utimes(path, time));
  #file: OpenFile | undefined;
  #lastWritten: string | undefined;
  #temporaryNames = 0;

  constructor(
    parent: ParentTree | undefined,
    add: (command: SendCommand) => void,
    findClone: FindClone = () => undefined,
    writer: ContentWriter = new PlainWriter(add),
  ) {
    this.#tree = new LayerTree(parent);
    this.#add = add;
    this.#findClone = findClone;
    this.#writer = writer;
    if (parent !== undefined) return;
    add({ op: 'chown', path: '', uid: 0, gid: 0 });
    add({ op: 'chmod', path: '', mode: 0o555 });
  }

  /** Takes the next event. Throws TAR_INVALID for what no layer may hold. */
  handle(event: TarEvent): void | Promise<void> {
    if (event.kind === 'content') return this.#content(event.piece);
    if (event.kind === 'padding') return;
    this.#closeFile();
    if (event.kind === 'entry') this.#entry(event.entry);
  }

  /** Ends the layer. */
  finish(): void {
    this.#closeFile();
    this.#times.finish();
  }

  #entry(entry: TarEntry): void {
    const names = pathNames(entry.path);
    const base = names.at(-1);
    if (base === undefined) {
      if (entry.type !== 'directory') {
        throw new SnapgateError('TAR_INVALID', 'the root of the layer is no directory');
      }
      this.#attributes(this.#tree.root, entry);
      return;
    }
    const parents = names.slice(0, -1);
    const directory = this.#directory(parents);
    this.#times.enter(directory);
    // Left by an old storage driver; Podman passes over it as well.
    if (names[0]?.startsWith(WHITEOUT_META) && (names.length > 1 || base !== OPAQUE)) return;
    if (base === OPAQUE) this.#opaque(parents, directory);
    else if (base.startsWith(WHITEOUT)) this.#whiteout(directory, base.slice(WHITEOUT.length));
    else this.#place(this.#tree.child(directory, base), entry);
  }

  #directory(names: readonly string[]): TreeNode {
    const found = this.#tree.directory(names, (node) => {
      // Of a directory that is not named, all is as mkdir(2) has it: the group may be inherited.
      const setgid = node.parent?.setgid ?? false;
      this.#add({ op: 'mkdir', path: node.path, ino: 0 });
      this.#add({ op: 'chmod', path: node.path, mode: setgid ? 0o2755 : 0o755 });
      this.#tree.make(node, 'directory');
      node.setgid = setgid;
      this.#times.touch(node.parent);
      this.#times.touch(node);
    });
    return found as TreeNode;
  }

  #whiteout(directory: TreeNode, name: string): void {
    if (name === '' || name === '.' || name === '..') {
      throw new SnapgateError('TAR_INVALID', 'a whiteout names nothing', { where: directory.path });
    }
    this.#remove(this.#tree.child(directory, name));
  }

  /** Removes what was in a directory before this layer; a link to a directory is left alone. */
  #opaque(names: readonly string[], directory: TreeNode): void {
    if (names.filter((name) => name !== '.').join('/') !== directory.path) {
      const above = this.#tree.directory(names.slice(0, -1));
      const last = names.at(-1);
      if (above && last && this.#tree.child(above, last).kind === 'symlink') return;
    }
    this.#clear(directory);
  }

  #clear(directory: TreeNode): void {
    for (const node of this.#tree.list(directory)) {
      if (!node.named) this.#remove(node);
      else if (node.kind === 'directory') this.#clear(node);
    }
  }

  #remove(node: TreeNode): void {
    if (node.kind === 'absent') return;
    if (node.kind === 'directory') {
      for (const child of this.#tree.list(node)) this.#remove(child);
      this.#add({ op: 'rmdir', path: node.path });
    } else this.#add({ op: 'unlink', path: node.path });
    this.#tree.remove(node);
    this.#times.touch(node.parent);
  }

  #place(node: TreeNode, entry: TarEntry): void {
    const { path } = node;
    const merges = node.kind === 'directory' && entry.type === 'directory';
    // A hard link to the very path that it replaces would lose its target.
    const target = entry.type === 'hardlink' ? this.#linkTarget(entry, node) : undefined;
    if (!merges) this.#remove(node);
    node.named = true;
    if (!merges) this.#times.touch(node.parent);
    switch (entry.type) {
      case 'file':
        this.#tree.make(node, 'file');
        this.#openFile(path, entry);
        return;
      case 'directory':
        if (!merges) {
          this.#add({ op: 'mkdir', path, ino: 0 });
          this.#tree.make(node, 'directory');
        }
        break;
      case 'symlink':
        this.#symlink(node, entry);
        break;
      case 'hardlink':
        this.#add({ op: 'link', path, target: (target as TreeNode).path });
        this.#tree.make(node, (target as TreeNode).kind as 'file', (target as TreeNode).link);
        break;
      default:
        this.#special(node, entry);
    }
    this.#attributes(node, entry);
  }

  #linkTarget(entry: TarEntry, node: TreeNode): TreeNode {
    const names = pathNames(entry.linkPath);
    const base = names.at(-1);
    const directory = this.#tree.directory(names.slice(0, -1));
    const target = base && directory ? this.#tree.child(directory, base) : undefined;
    const usable = target !== undefined && target !== node && !isBelow(target, node);
    if (usable && target.kind !== 'absent' && target.kind !== 'directory') return target;
    throw new SnapgateError('TAR_INVALID', 'a hard link of the layer has no target', {
      where: `${node.path} -> ${entry.linkPath}`,
    });
  }

  #symlink(node: TreeNode, entry: TarEntry): void {
    if (entry.linkPath === '') {
      throw new SnapgateError('TAR_INVALID', 'a symbolic link of the layer is empty', {
        where: node.path,
      });
    }
    this.#add({ op: 'symlink', path: node.path, ino: 0, target: entry.linkPath });
    this.#tree.make(node, 'symlink', entry.linkPath);
  }

  #special(node: TreeNode, entry: TarEntry): void {
    const { path } = node;
    const { devMajor, devMinor } = entry;
    this.#tree.make(node, 'other');
    if (entry.type === 'fifo') {
      this.#add({ op: 'mkfifo', path, ino: 0, rdev: 0, mode: 0o010600 });
      return;
    }
    if (devMajor < 0 || devMajor > 0xfff || devMinor < 0 || devMinor > 0xfffff) {
      const device = `${devMajor}:${devMinor}`;
      throw new SnapgateError('TAR_INVALID', `there is no device ${device}`, { where: path });
    }
    const mode = (entry.type === 'char' ? S_IFCHR : S_IFBLK) | 0o600;
    this.#add({ op: 'mknod', path, ino: 0, rdev: encodeDevice(devMajor, devMinor), mode });
  }

  #openFile(finalPath: string, entry: TarEntry): void {
    const path = finalPath === this.#lastWritten ? this.#temporaryName() : finalPath;
    this.#add({ op: 'mkfile', path, ino: 0 });
    const content = new FileContent({ path, size: entry.realSize }, this.#add, this.#writer);
    this.#file = { entry, path, finalPath, content, run: 0, runUsed: 0 };
    if (entry.realSize > 0) this.#lastWritten = path;
  }

  #temporaryName(): string {
    this.#times.touch(this.#tree.root);
    for (;;) {
      this.#temporaryNames += 1;
      const name = `.snapgate-rewritten-${this.#temporaryNames}`;
      if (this.#tree.child(this.#tree.root, name).kind === 'absent') return name;
    }
  }

  #content(piece: Piece): void | Promise<void> {
    const file = this.#file;
    if (file === undefined) return;
    const clone = piece.source && this.#findClone(piece.source.file);
    if (clone instanceof Promise) return clone.then((found) => putPiece(file, piece, found));
    putPiece(file, piece, clone);
  }

  #closeFile(): void {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    file.content.finish();
    this.bytesCloned += file.content.cloned;
    this.#attributesAt(file.path, file.entry);
    if (file.path === file.finalPath) return;
    this.#add({ op: 'rename', path: file.path, to: file.finalPath });
  }

  #attributes(node: TreeNode, entry: TarEntry): void {
    if (entry.type !== 'directory') {
      this.#attributesAt(node.path, entry, node.kind === 'symlink');
      return;
    }
    this.#attributesAt(node.path, entry);
    node.setgid = (entry.mode & S_ISGID) !== 0;
    this.#times.set(node, entry.mtime);
  }

  #attributesAt(path: string, entry: TarEntry, isLink = false): void {
    const { uid, gid, mode, xattrs, type, mtime } = entry;
    if (uid < 0 || uid > MAX_ID || gid < 0 || gid > MAX_ID) {
      throw new SnapgateError('TAR_INVALID', `there is no owner ${uid}:${gid}`, { where: path });
    }
    // Changing the owner clears set-id bits and capabilities, so it comes first.
    this.#add({ op: 'chown', path, uid, gid });
    if (!isLink) this.#add({ op: 'chmod', path, mode });
    for (const [xattrName, xattrValue] of xattrs) {
      if (XATTRS.test(xattrName)) this.#add({ op: 'setXattr', path, xattrName, xattrValue });
    }
    if (type === 'symlink') this.#utimes(path, mtime, true);
    else if (type !== 'directory' && !isLink) this.#utimes(path, mtime);
  }

  /** Times before 1970 become 1970 on all but symbolic links, as Podman has it. */
  #utimes(path: string, { seconds, nanoseconds }: TarTime, isLink = false): void {
    const inRange = seconds <= LAST_SECOND && (isLink || seconds >= 0);
    const time = inRange ? { seconds, nanoseconds } : { seconds: 0, nanoseconds: 0 };
    this.#add({ op: 'utimes', path, atime: time, mtime: time, ctime: time });
  }
}

function isBelow(node: TreeNode, ancestor: TreeNode): boolean {
  for (let at = node.parent; at !== undefined; at = at.parent) if (at === ancestor) return true;
  return false;
}
