import { expect, it } from 'vitest';
import { peakMemory } from '../../shared/peak-memory.ts';

it('prefers what counts for this program alone', () => {
  const status = 'Name:\tnode\nVmPeak:\t  999 kB\nVmHWM:\t   84320 kB\nVmRSS:\t   80000 kB\n';
  expect(peakMemory(status, 1e9)).toBe(84320 * 1024);
  expect(peakMemory('Name:\tnode\n', 5000)).toBe(5000);
  expect(peakMemory(undefined, 5000)).toBe(5000);
});
