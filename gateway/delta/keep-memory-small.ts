import { createRequire } from 'node:module';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Parameters of mallopt(3). */
const M_MMAP_THRESHOLD = -3;
const M_ARENA_MAX = -8;
/** Buffers of this many bytes and more go back to the system at once when they are freed. */
const MAPPED_BYTES = 1024 * 1024;

/** Half of the room for young objects in a worker thread's heap, in MiB: streams leave little behind. */
const SEMI_SPACE_MB = 4;
/** What `resourceLimits` of a worker thread count: V8 has three such halves. */
export const YOUNG_GENERATION_MB = 3 * SEMI_SPACE_MB;

let isSmall = false;
let trim: (() => void) | undefined;

/**
 * Has the C library give freed memory back to the system. By default each thread keeps its own, and
 * the library keeps ever larger buffers once some of that size were freed: together a third of what
 * making a delta took. Does nothing where the C library knows no such settings.
 */
export function keepMemorySmall(): void {
  if (isSmall) return;
  isSmall = true;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as typeof import('koffi');
    const set = koffi.load(null).func('int mallopt(int param, int value)');
    set(M_ARENA_MAX, 1);
    set(M_MMAP_THRESHOLD, MAPPED_BYTES);
    const trimHeap = koffi.load(null).func('int malloc_trim(size_t pad)');
    trim = () => trimHeap(0);
  } catch {
    // Another C library; all works as well, with more memory.
  }
}

let collect: (() => void) | undefined;

/** Collects the garbage of this thread. */
export function collectGarbage(): void {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  collect();
}

/** Gives back what this thread does not use any more, and what is free between what all use. */
export function giveBackMemory(): void {
  collectGarbage();
  trim?.();
}
