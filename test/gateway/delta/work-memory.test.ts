import { describe, expect, it } from 'vitest';
import { findMatches } from '../../../gateway/delta/match.ts';
import { indexBytes, MatchIndex } from '../../../gateway/delta/match-index.ts';
import { WorkMemory } from '../../../gateway/delta/work-memory.ts';
import { noise } from '../../support/sample-layer-delta.ts';

describe('WorkMemory', () => {
  it('is used again, and given back', () => {
    const memory = new WorkMemory();
    memory.begin(3000);
    const [bytes, numbers] = [memory.bytes(1001), memory.numbers(400)];
    numbers.fill(-1);
    bytes.fill(1);
    expect(numbers.every((number) => number === -1)).toBe(true);
    memory.begin(1000);
    expect(memory.bytes(10).buffer).toBe(bytes.buffer);
    memory.free();
    expect(memory.size).toBe(0);
    expect(bytes.length).toBe(0);
  });

  it('makes no difference to what is found, whatever stood in it', () => {
    const memory = new WorkMemory();
    const old = noise(60_000, 1);
    const fresh = Buffer.concat([old.subarray(30_000), noise(5000, 2), old.subarray(0, 30_000)]);
    for (const halvings of [0, 2]) {
      const bytes = indexBytes(old.length, halvings);
      memory.begin(bytes);
      memory.bytes(bytes).fill(0x55);
      memory.begin(bytes);
      const index = new MatchIndex(old, { memory, halvings });
      expect(findMatches(old, fresh, index)).toEqual(findMatches(old, fresh));
    }
    expect(indexBytes(old.length, 1)).toBeLessThan(indexBytes(old.length));
  });
});
