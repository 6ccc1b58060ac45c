import { constants, PerformanceObserver } from 'node:perf_hooks';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { giveBackMemory, LeftBehind } from '../../../gateway/delta/keep-memory-small.ts';

type Collection = { readonly detail?: { readonly kind?: number; readonly flags?: number } };

/** The kinds of collections that were asked for during some work. */
async function forced(work: () => void): Promise<(number | undefined)[]> {
  const kinds: (number | undefined)[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { kind, flags = 0 } = (entry as Collection).detail ?? {};
      if ((flags & constants.NODE_PERFORMANCE_GC_FLAGS_FORCED) !== 0) kinds.push(kind);
    }
  });
  observer.observe({ entryTypes: ['gc'] });
  work();
  await setImmediate();
  await setImmediate();
  observer.disconnect();
  return kinds;
}

const MIB = 1024 * 1024;

describe('memory', () => {
  it('of young buffers is collected every 8 MiB, without looking at old ones', async () => {
    const left = new LeftBehind();
    expect(await forced(() => left.add(7 * MIB))).toEqual([]);
    expect(await forced(() => left.add(MIB))).toEqual([constants.NODE_PERFORMANCE_GC_MINOR]);
    expect(await forced(() => left.add(7 * MIB))).toEqual([]);
  });

  it('is given back with all that is old', async () => {
    const kinds = await forced(giveBackMemory);
    expect(kinds).toContain(constants.NODE_PERFORMANCE_GC_MAJOR);
  });
});
