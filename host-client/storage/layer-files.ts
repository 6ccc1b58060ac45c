import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import type { SourceFile, SourceTree } from '../../shared/delta/piece.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { readAhead } from '../system/read-ahead.ts';
import { LayerTree, pathNames, type TreeNode } from './layer-tree.ts';
import { FolderTree, placeBelow } from './parent-tree.ts';

/** Most of a file that is read before it is asked for; then the system itself goes ahead. */
const AHEAD_BYTES = 1024 * 1024;
/** Most files kept open at once; an older one is opened again when it is read again. */
const MAX_OPEN = 64;
/**
 * The time of access is left alone: to note it for every file of an image would write all metadata
 * of the image anew, which shares its blocks with others. Only the owner and root may ask for that.
 */
const FLAGS =
  constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOATIME;

/** A file of a layer in storage: what is copied from it unchanged need not be written again. */
export type LayerFile = SourceFile & {
  readonly layerId: string;
  /** Path in the layer's subvolume, without links. */
  readonly realPath: string;
};

/** Whether a file of a source stands in a layer in storage. */
export function isLayerFile(file: SourceFile): file is LayerFile {
  return 'layerId' in file;
}

/**
 * The merged tree of a layer as the source of a delta. Links on the way to a file are followed inside
 * the tree; the file itself must be a regular one.
 */
export class LayerFiles implements SourceTree, Disposable {
  readonly #folder: string;
  readonly #layerId: string;
  readonly #tree: LayerTree;
  readonly #open = new Map<string, number>();

  constructor(folder: string, layerId: string) {
    this.#folder = folder;
    this.#layerId = layerId;
    this.#tree = new LayerTree(new FolderTree(folder));
  }

  open(path: string): LayerFile {
    const realPath = this.#resolve(path);
    const { size } = fstatSync(this.#descriptor(realPath));
    const layerId = this.#layerId;
    const read = (target: Uint8Array, offset: number) =>
      readSync(this.#descriptor(realPath), target, 0, target.length, offset);
    return { path, realPath, layerId, size, read };
  }

  /** Has the system read the beginning of a file meanwhile. */
  expect(path: string): void {
    try {
      readAhead(this.#descriptor(this.#resolve(path)), AHEAD_BYTES);
    } catch {
      // Whoever opens it hears of that.
    }
  }

  #resolve(path: string): string {
    let found: TreeNode | undefined;
    let cause: unknown;
    try {
      const names = pathNames(path);
      const directory = this.#tree.directory(names.slice(0, -1));
      const base = names.at(-1);
      if (base !== undefined && directory) found = this.#tree.child(directory, base);
    } catch (error) {
      cause = error;
    }
    if (found?.kind === 'file') return found.path;
    throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'a source file is not in the held image', {
      where: JSON.stringify(path.slice(0, 300)),
      hint: 'Update with --full, which needs no source.',
      cause,
    });
  }

  #descriptor(realPath: string): number {
    const known = this.#open.get(realPath);
    if (known !== undefined) this.#open.delete(realPath);
    const fd = known ?? openSync(placeBelow(this.#folder, realPath), FLAGS);
    this.#open.set(realPath, fd);
    const [oldest] = this.#open;
    if (this.#open.size > MAX_OPEN && oldest !== undefined) {
      this.#open.delete(oldest[0]);
      closeSync(oldest[1]);
    }
    return fd;
  }

  close(): void {
    for (const fd of this.#open.values()) closeSync(fd);
    this.#open.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
