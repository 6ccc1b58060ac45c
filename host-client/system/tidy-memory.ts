import { readFileSync } from 'node:fs';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { peakMemory } from '../../shared/peak-memory.ts';
import { loadKoffi } from './koffi.ts';

/** Bytes of buffers after which the garbage of them is collected. */
const EVERY_BYTES = 8 * 1024 * 1024;
/** Bytes outside of the heap that may be garbage. */
const MOST_GARBAGE_BYTES = 6 * 1024 * 1024;

/** Parameters of mallopt(3). */
const M_TRIM_THRESHOLD = -1;
const M_MMAP_THRESHOLD = -3;
const M_ARENA_MAX = -8;
/** Buffers of this many bytes and more go back to the system at once when they are freed. */
const MAPPED_BYTES = 64 * 1024;

/**
 * Keeps V8's heap small: the part for young objects at its first size, 1 MiB a half, instead of
 * letting it grow to 16, as a stream leaves little behind; and the rest not far above what lives. To
 * be called before much was allocated.
 */
export function keepHeapSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
  setFlagsFromString('--optimize-for-size');
}

let isTidy = false;

/**
 * Has the C library give freed memory back to the system: by default each thread keeps its own, and
 * what was freed between two blocks in use stays. Costs loading koffi, so it is for commands that
 * move much. Does nothing where the C library knows no such settings.
 */
export function keepBuffersSmall(): void {
  if (isTidy) return;
  isTidy = true;
  try {
    const set = loadKoffi().load(null).func('int mallopt(int param, int value)');
    set(M_ARENA_MAX, 1);
    set(M_MMAP_THRESHOLD, MAPPED_BYTES);
    set(M_TRIM_THRESHOLD, 2 * MAPPED_BYTES);
  } catch {
    // Another C library; all works as well, with more memory.
  }
}
/** The most bytes that this process has had resident so far. */
export function peakRssBytes(): number {
  const maxRss = process.resourceUsage().maxRSS * 1024;
  try {
    return peakMemory(readFileSync('/proc/self/status', 'latin1'), maxRss);
  } catch {
    return maxRss;
  }
}

const MADV_DONTNEED = 4;
/** Bytes of buffers after which code is let go of again. */
const CODE_EVERY_BYTES = 16 * 1024 * 1024;

type Advise = (start: bigint, length: number, advice: number) => number;

/** What lets go of code, and the mappings that it was last in. */
let code: { readonly advise: Advise; readonly mappings: [bigint, number][] } | undefined;

/**
 * Lets go of the pages of the program file that are mapped: most of them were needed to start, or for
 * a step that is over. What is needed again is mapped again, from the system's cache of that file. From
 * now on that is done again and again while buffers pass.
 */
export function letGoOfCode(): void {
  try {
    const signature = 'int madvise(uintptr_t start, size_t length, int advice)';
    const advise = code?.advise ?? loadKoffi().load(null).func(signature);
    const mappings = [...unchangedMappings(readFileSync('/proc/self/smaps', 'latin1'))];
    code = { advise, mappings };
    unmapCode();
    // What was freed between blocks in use goes, too: the settings above are for the end alone.
    loadKoffi().load(null).func('int malloc_trim(size_t pad)')(0);
  } catch {
    // Without /proc, or with another C library, they stay.
  }
}

function unmapCode(): void {
  for (const [start, length] of code?.mappings ?? []) code?.advise(start, length, MADV_DONTNEED);
}

/** Start and length of what is mapped from files, cannot be written to, and was not changed. */
function* unchangedMappings(smaps: string): Generator<[bigint, number]> {
  let range: [bigint, number] | undefined;
  for (const line of smaps.split('\n')) {
    const found = /^([0-9a-f]+)-([0-9a-f]+) r-[x-]p [0-9a-f]+ \S+ [1-9]\d*\s+\//.exec(line);
    if (found !== null) {
      const [start, end] = [BigInt(`0x${found[1]}`), BigInt(`0x${found[2]}`)];
      range = [start, Number(end - start)];
    } else if (/^[0-9a-f]+-/.test(line)) range = undefined;
    else if (range !== undefined && line.startsWith('Anonymous:')) {
      if (/^Anonymous: +0 kB/.test(line)) yield range;
      range = undefined;
    }
  }
}

type Collect = (options: { readonly type: 'minor' | 'major' }) => void;

let collect: Collect | undefined;
let passed = 0;
let passedByCode = 0;
/** Bytes outside of the heap after the last thorough collection. */
let live = 0;

/**
 * Tells that buffers of so many bytes were used up. V8 frees what lies outside of its heap when the
 * heap itself fills, and a stream of large buffers hardly fills it: without this, tens of megabytes
 * of them lie about, on machines that have little. Buffers that have grown old among many small
 * objects take a thorough collection, which is made when they have become many.
 */
export function buffersPassed(bytes: number): void {
  passed += bytes;
  if (passed < EVERY_BYTES) return;
  passedByCode += passed;
  if (passedByCode >= CODE_EVERY_BYTES) {
    passedByCode = 0;
    unmapCode();
  }
  passed = 0;
  collect ??= findCollect();
  collect({ type: 'minor' });
  if (getHeapStatistics().external_memory < live + MOST_GARBAGE_BYTES) return;
  collect({ type: 'major' });
  live = getHeapStatistics().external_memory;
}

/** Passes on what is made of buffers, whose memory `bytesOf` tells, and tidies up behind them. */
export async function* tidily<T>(
  items: AsyncIterable<T>,
  bytesOf: (item: T) => number,
): AsyncGenerator<T, void, void> {
  for await (const item of items) {
    const bytes = bytesOf(item);
    yield item;
    buffersPassed(bytes);
  }
}

function findCollect(): Collect {
  setFlagsFromString('--expose-gc');
  const found: unknown = runInNewContext('gc');
  return typeof found === 'function' ? (found as Collect) : () => undefined;
}
