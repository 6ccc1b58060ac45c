import type { TarTime } from '../../shared/tar/entry.ts';
import type { TreeNode } from './layer-tree.ts';

/**
 * The times that a layer gives to its directories. All that is made in a directory changes its time:
 * so it is set when the layer goes on elsewhere, and again when it comes back. Set at the very end,
 * it would change inodes all over a tree whose blocks may be on the disk by then.
 */
export class DirectoryTimes {
  readonly #emit: (path: string, time: TarTime) => void;
  readonly #times = new Map<TreeNode, TarTime>();
  /** Directories that have another time now. */
  readonly #changed = new Set<TreeNode>();
  #current: TreeNode | undefined;

  constructor(emit: (path: string, time: TarTime) => void) {
    this.#emit = emit;
  }

  /** Says the time of a directory. */
  set(directory: TreeNode, time: TarTime): void {
    this.#times.set(directory, time);
    this.#changed.add(directory);
  }

  /** Says that something is made in a directory, or removed from it. */
  touch(directory: TreeNode | undefined): void {
    if (directory !== undefined && this.#times.has(directory)) this.#changed.add(directory);
  }

  /** Sets the times of all directories but the one that the next entry is in and those above it. */
  enter(directory: TreeNode): void {
    if (directory === this.#current) return;
    this.#current = directory;
    const open = new Set<TreeNode>();
    for (let at: TreeNode | undefined = directory; at !== undefined; at = at.parent) open.add(at);
    this.#settle((node) => !open.has(node));
  }

  /** Sets the times that are left. */
  finish(): void {
    this.#settle(() => true);
  }

  #settle(which: (node: TreeNode) => boolean): void {
    for (const node of this.#changed) {
      if (!which(node)) continue;
      this.#changed.delete(node);
      const time = this.#times.get(node);
      if (time !== undefined && node.kind === 'directory') this.#emit(node.path, time);
    }
  }
}
