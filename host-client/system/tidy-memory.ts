import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Bytes of buffers after which the garbage of them is collected. */
const EVERY_BYTES = 8 * 1024 * 1024;
/** Bytes outside of the heap that may be garbage. */
const MOST_GARBAGE_BYTES = 12 * 1024 * 1024;

/**
 * Keeps the part of V8's heap for young objects at its first size, 1 MiB a half, instead of letting it
 * grow to 16: a stream leaves little behind. To be called before much was allocated.
 */
export function keepHeapSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1');
}

type Collect = (options: { readonly type: 'minor' | 'major' }) => void;

let collect: Collect | undefined;
let passed = 0;
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
  passed = 0;
  collect ??= findCollect();
  collect({ type: 'minor' });
  if (getHeapStatistics().external_memory < live + MOST_GARBAGE_BYTES) return;
  collect({ type: 'major' });
  live = getHeapStatistics().external_memory;
}

function findCollect(): Collect {
  setFlagsFromString('--expose-gc');
  const found: unknown = runInNewContext('gc');
  return typeof found === 'function' ? (found as Collect) : () => undefined;
}
