import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { matchStretches } from '../../../gateway/delta/match-stretches.ts';
import { isPacked } from '../../../gateway/delta/packed-content.ts';
import { noise } from '../../support/bytes.ts';

/** Bytes that stand in the middle of a file. */
function side(bytes: Buffer) {
  const file = Buffer.concat([Buffer.alloc(100, 'x'), bytes, Buffer.alloc(100, 'x')]);
  const read = (target: Uint8Array, offset: number) => {
    expect(offset + target.length).toBeLessThanOrEqual(100 + bytes.length);
    target.set(file.subarray(offset, offset + target.length));
  };
  return { read, stretch: { offset: 100, size: bytes.length } };
}

const PLAIN = { endsOnly: false, memoryBytes: 1e9 };

/** Rebuilds what the matches explain; the rest is taken from the new bytes. */
function rest(old: Buffer, fresh: Buffer, matches: Float64Array): number {
  let agreeing = 0;
  let end = 0;
  for (let i = 0; i < matches.length; i += 3) {
    const [oldAt = 0, newAt = 0, length = 0] = matches.subarray(i, i + 3);
    expect(newAt).toBeGreaterThanOrEqual(end);
    end = newAt + length;
    expect(oldAt + length).toBeLessThanOrEqual(old.length);
    for (let k = 0; k < length; k += 1) if (old[oldAt + k] === fresh[newAt + k]) agreeing += 1;
  }
  expect(end).toBeLessThanOrEqual(fresh.length);
  return fresh.length - agreeing;
}

describe('matchStretches', () => {
  it('takes the candidate that explains most', () => {
    const fresh = noise('a', 20_000);
    const half = Buffer.concat([fresh.subarray(0, 8000), noise('b', 9000)]);
    const found = matchStretches(side(fresh), [half, noise('c', 9000), fresh].map(side), PLAIN);
    expect(found?.candidate).toBe(2);
    expect(matchStretches(side(fresh), [side(noise('c', 9000))], PLAIN)).toBeUndefined();
    expect(matchStretches(side(fresh), [], PLAIN)).toBeUndefined();
  });

  it('compares window by window what does not fit in memory', () => {
    const old = noise('old', 3_000_000);
    const fresh = Buffer.concat([
      noise('first', 5000),
      old.subarray(0, 2_000_000),
      old.subarray(2_010_000),
    ]);
    for (const memoryBytes of [1_500_000, 2_500_000, 4_500_000, 9_000_000]) {
      const found = matchStretches(side(fresh), [side(old)], { ...PLAIN, memoryBytes });
      expect(rest(old, fresh, found?.matches ?? new Float64Array())).toBeLessThan(10_000);
      // A window's edge is no reason for another match.
      expect(found?.matches.length).toBeLessThan(3 * 20);
    }
  });

  it('finds what moved far where the old file fits in memory, and the new one does not', () => {
    const old = noise('old', 20_000_000);
    const fresh = Buffer.concat([old.subarray(10_000_000), old.subarray(0, 10_000_000)]);
    const read: number[] = [];
    const before = side(old);
    const counting = {
      ...before,
      read: (target: Uint8Array, offset: number) => {
        read.push(target.length);
        before.read(target, offset);
      },
    };
    const options = { ...PLAIN, memoryBytes: 64_000_000 };
    const found = matchStretches(side(fresh), [counting], options);
    expect(found?.matches).toEqual(
      Float64Array.of(...[10_000_000, 0, 10_000_000], ...[0, 10_000_000, 10_000_000]),
    );
    expect(read).toEqual([old.length]);
  });

  it('keeps only the ends of packed files', () => {
    const [old, fresh] = ['before', 'after'].map((word) =>
      gzipSync(Buffer.concat([noise('head', 90_000), Buffer.from(word), noise('tail', 90_000)])),
    ) as [Buffer, Buffer];
    expect(isPacked(fresh)).toBe(true);
    const found = matchStretches(side(fresh), [side(old)], { ...PLAIN, endsOnly: true });
    expect(found?.matches.length).toBeLessThanOrEqual(6);
    expect(rest(old, fresh, found?.matches ?? new Float64Array())).toBeLessThan(100_000);
    const equal = matchStretches(side(old), [side(old)], { ...PLAIN, endsOnly: true });
    expect(equal?.matches).toEqual(Float64Array.of(0, 0, old.length));
  });
});

describe('isPacked', () => {
  it('knows what is compressed from what is not', () => {
    expect(isPacked(noise('x', 64 * 1024))).toBe(true);
    expect(isPacked(Buffer.from('fd377a585a00', 'hex'))).toBe(true);
    expect(isPacked(noise('x', 100))).toBe(false);
    expect(isPacked(Buffer.alloc(64 * 1024, 'some text '))).toBe(false);
    expect(isPacked(Buffer.alloc(0))).toBe(false);
  });
});
