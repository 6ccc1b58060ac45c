import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findMatches, type Match } from '../../../gateway/delta/match.ts';
import { noise } from '../../support/bytes.ts';

/** What a delta of these matches costs at least: bytes that are new or differ. */
function cost(old: Uint8Array, fresh: Uint8Array, matches: readonly Match[]): number {
  let agreeing = 0;
  for (const { oldOffset, newOffset, length } of matches) {
    for (let i = 0; i < length; i += 1) {
      if (old[oldOffset + i] === fresh[newOffset + i]) agreeing += 1;
    }
  }
  return fresh.length - agreeing;
}

function expectOrdered(old: Uint8Array, fresh: Uint8Array, matches: readonly Match[]): void {
  let end = 0;
  for (const { oldOffset, newOffset, length } of matches) {
    expect(length).toBeGreaterThan(0);
    expect(newOffset).toBeGreaterThanOrEqual(end);
    expect(oldOffset).toBeGreaterThanOrEqual(0);
    expect(oldOffset + length).toBeLessThanOrEqual(old.length);
    end = newOffset + length;
  }
  expect(end).toBeLessThanOrEqual(fresh.length);
}

const pieces = fc.array(
  fc.oneof(
    fc.record({
      from: fc.nat(9999),
      length: fc.nat(2000),
      every: fc.integer({ min: 5, max: 200 }),
    }),
    fc.record({ fresh: fc.uint8Array({ maxLength: 300 }) }),
    fc.record({ zeros: fc.nat(500) }),
  ),
  { maxLength: 12 },
);

/** A file made of stretches of `old` with single bytes changed, new bytes and zeros. */
function compose(old: Buffer, parts: typeof pieces extends fc.Arbitrary<infer T> ? T : never) {
  return Buffer.concat(
    parts.map((part) => {
      if ('fresh' in part) return Buffer.from(part.fresh);
      if ('zeros' in part) return Buffer.alloc(part.zeros);
      const bytes = Buffer.from(old.subarray(part.from, part.from + part.length));
      for (let i = part.every - 1; i < bytes.length; i += part.every)
        bytes[i] = (bytes[i] ?? 0) ^ 1;
      return bytes;
    }),
  );
}

describe('findMatches', () => {
  it('finds a whole file again', () => {
    const file = noise('a', 100_000);
    expect(findMatches(file, file)).toEqual([{ oldOffset: 0, newOffset: 0, length: 100_000 }]);
  });

  it('stays in order and in bounds, whatever the files', () => {
    const files = fc.oneof(
      fc.uint8Array({ maxLength: 200 }),
      fc.uint8Array({ max: 1, maxLength: 200 }),
    );
    fc.assert(
      fc.property(files, files, (old, fresh) => expectOrdered(old, fresh, findMatches(old, fresh))),
    );
  });

  it('explains nearly all of a file that was made of pieces of the old one', () => {
    const old = Buffer.concat([noise('b', 10_000), Buffer.alloc(700)]);
    fc.assert(
      fc.property(pieces, (parts) => {
        const fresh = compose(old, parts);
        const matches = findMatches(old, fresh);
        expectOrdered(old, fresh, matches);
        const changed = parts.reduce((sum, part) => {
          if ('fresh' in part) return sum + part.fresh.length + 8;
          if ('zeros' in part) return sum + Math.min(part.zeros, 64);
          // Stretches of few equal bytes in a row are not looked up.
          return sum + (part.every < 32 ? part.length : part.length / part.every + 48);
        }, 0);
        expect(cost(old, fresh, matches)).toBeLessThanOrEqual(changed + 64);
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  it('extends over bytes that changed in place, backwards and forwards', () => {
    const old = noise('c', 4096);
    const fresh = Buffer.concat([noise('d', 500), old]);
    for (let i = 0; i < 4096; i += 40) fresh[500 + i] = (fresh[500 + i] ?? 0) ^ 0xff;
    const matches = findMatches(old, fresh);
    expect(matches).toHaveLength(1);
    expect(matches[0]?.length).toBeGreaterThan(4096 - 48);
  });

  it.each([
    ['not through a long table of other records', 2000, false],
    ['through a short one', 100, true],
  ])('extends by zeros alone %s', (_, records, isThrough) => {
    const same = noise('same', 1000);
    const table = (seed: string) => {
      const bytes = noise(seed, 24 * records);
      return bytes.map((byte, i) => (i % 24 < 9 ? byte | 1 : 0));
    };
    const [old, fresh] = ['h', 'i'].map((seed) => Buffer.concat([same, table(seed)])) as [
      Buffer,
      Buffer,
    ];
    const length = findMatches(old, fresh).reduce((sum, match) => sum + match.length, 0);
    expect(length > 0.9 * fresh.length).toBe(isThrough);
    expect(length).toBeGreaterThanOrEqual(1000);
  });

  it('follows a block that moved', () => {
    const [a, b, c] = [noise('e', 5000), noise('f', 5000), noise('g', 5000)];
    const matches = findMatches(Buffer.concat([a, b, c]), Buffer.concat([c, a, b]));
    expect(matches.map((match) => match.oldOffset - match.newOffset)).toEqual([10_000, -5000]);
    expect(matches.reduce((sum, match) => sum + match.length, 0)).toBe(15_000);
  });
});
