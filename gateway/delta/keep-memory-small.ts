import { createRequire } from 'node:module';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
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

let collect: ((options?: { readonly type: 'minor' }) => void) | undefined;

function collector(): NonNullable<typeof collect> {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as NonNullable<typeof collect>;
  }
  return collect;
}

/** Collects the garbage of this thread. */
export function collectGarbage(): void {
  collector()();
}

/** Young objects are collected once they hold about this many bytes outside of the heap. */
const YOUNG_BYTES = 8 * 1024 * 1024;

/**
 * Buffers that a stream of bytes leaves behind in this thread. V8 counts them with its old objects,
 * and marks all of the heap again and again, for every 10 to 20 MB of them. They die young: looking at
 * young objects alone, in time, takes a millisecond instead of thirty, and keeps less in memory.
 */
export class LeftBehind {
  #bytes = 0;

  /** So many more bytes were passed on in buffers of their own. */
  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < YOUNG_BYTES) return;
    this.#bytes = 0;
    collector()({ type: 'minor' });
  }
}

/** How much a small heap grows before all of it is marked, in bytes; and what heap is small. */
const GROWTH = 32 * 1024 * 1024;
const SMALL_HEAP = 2 * GROWTH;

/**
 * Gives back what this thread does not use any more, and what is free between what all use. A small
 * heap may then grow by a fixed amount: V8 would let it grow by a part of its size, and mark it ten
 * times as often.
 */
export function giveBackMemory(): void {
  collectGarbage();
  trim?.();
  const { used_heap_size: used } = getHeapStatistics();
  const percent = used < SMALL_HEAP ? Math.round((100 * GROWTH) / used) : 0;
  setFlagsFromString(`--heap-growing-percent=${percent}`);
}
