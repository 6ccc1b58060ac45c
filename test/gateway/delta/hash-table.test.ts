import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HashGroups, HashTable, hashOf, wideHashOf } from '../../../gateway/delta/hash-table.ts';

describe('HashTable', () => {
  it('holds what a map does', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.string(), fc.nat(2 ** 31 - 1)), { maxLength: 1000 }),
        (sets) => {
          const table = new HashTable();
          for (const [text, value] of sets) table.set(wideHashOf(text), value);
          for (const [text, value] of new Map(sets))
            expect(table.get(wideHashOf(text))).toBe(value);
          expect(table.get(wideHashOf('not among them, surely'))).toBeUndefined();
        },
      ),
      { numRuns: 20 },
    );
  });

  it('tells 200,000 paths from each other that differ in little', () => {
    const table = new HashTable();
    const path = (i: number) => `usr/lib/${i % 7}/${i}`;
    for (let i = 0; i < 200_000; i += 1) table.set(wideHashOf(path(i)), i);
    const wrong = Array.from({ length: 200_000 }, (_, i) => i).filter(
      (i) => table.get(wideHashOf(path(i))) !== i,
    );
    expect(wrong).toEqual([]);
  });
});

describe('HashGroups', () => {
  it('gives the first of a group in the order in which they were added', () => {
    const groups = new HashGroups(1000);
    for (let i = 0; i < 1000; i += 1) groups.add(hashOf(`group ${i % 10}`), i, 5);
    expect(groups.of(hashOf('group 3'))).toEqual([3, 13, 23, 33, 43]);
    expect(groups.of(hashOf('group 11'))).toEqual([]);
    expect(new HashGroups(0).of(hashOf('any'))).toEqual([]);
  });
});
