import type { BootTries } from './entry.ts';
import type { ImageKernel } from './kernel.ts';

/** What is to be booted. */
export type BootRequest = {
  readonly id: string;
  readonly title: string;
  readonly kernel: ImageKernel;
  /** Kernel command line. */
  readonly options: string;
};

/** A deployment as the boot loader sees it. */
export type BootState = {
  readonly id: string;
  readonly rank: number;
  readonly tries: BootTries;
};

/**
 * A boot loader that knows deployments. Whatever is interrupted, one of the complete entries boots:
 * files come first, the entry that names them last.
 */
export type BootLoader = {
  readonly name: string;
  /** Makes a deployment the next to boot, for so many tries. Throws NO_SPACE, BOOT_INVALID. */
  add(request: BootRequest, tries: number): Promise<void>;
  /** Makes a deployment that is there already the next to boot, without counting. */
  choose(id: string): Promise<void>;
  /** Ends the counting of a deployment that works. */
  bless(id: string): Promise<void>;
  /** Removes entries, and the kernels that no entry needs any more; says how many bytes that freed. */
  remove(ids: readonly string[]): Promise<number>;
  /** All deployments, in the order in which they would be booted. */
  list(): Promise<BootState[]>;
};
