import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ReadWindow } from '../../../gateway/delta/read-window.ts';
import type { ReadRange } from '../../../gateway/delta/spool-file.ts';

const FILE = Buffer.from(Array.from({ length: 1000 }, (_, i) => (i * 7 + (i >> 8)) % 256));

/** Reads {@link FILE}, and tells of each time. */
function reader(onRead: (from: number, to: number) => void = () => {}): ReadRange {
  return (target, offset) => {
    onRead(offset, offset + target.length);
    if (offset + target.length > FILE.length) throw new RangeError('the file is shorter');
    target.set(FILE.subarray(offset, offset + target.length));
  };
}

describe('a read window', () => {
  it('gives the bytes of any stretch, and reads none outside of it', () => {
    const asked = fc.record({
      ...{ file: fc.nat(1), offset: fc.nat(400), size: fc.integer({ min: 1, max: 600 }) },
      ...{ at: fc.nat(599), count: fc.integer({ min: 1, max: 64 }) },
    });
    fc.assert(
      fc.property(fc.array(asked, { maxLength: 30 }), fc.nat(700), (all, whole) => {
        let bounds = { offset: 0, size: 0 };
        const within = (from: number, to: number) => {
          expect(from).toBeGreaterThanOrEqual(bounds.offset);
          expect(to).toBeLessThanOrEqual(bounds.offset + bounds.size);
        };
        const files = [reader(within), reader(within)];
        const window = new ReadWindow(32, whole);
        for (const { file, at, count, ...stretch } of all) {
          if (at + count > stretch.size) continue;
          bounds = stretch;
          const bytes = window.bytes(files[file] as ReadRange, stretch, at, count);
          const from = stretch.offset + at;
          expect(bytes.equals(FILE.subarray(from, from + count))).toBe(true);
        }
      }),
    );
  });

  it('reads once what stands near, and a small stretch as a whole', () => {
    const reads: [number, number][] = [];
    const read = reader((from, to) => reads.push([from, to]));
    const window = new ReadWindow(100, 300);
    const large = { offset: 10, size: 900 };
    for (const at of [200, 210, 175, 265]) window.bytes(read, large, at, 10);
    expect(reads).toEqual([[185, 285]]);
    const small = { offset: 300, size: 300 };
    for (const at of [290, 0, 100]) window.bytes(read, small, at, 10);
    expect(reads.slice(1)).toEqual([[300, 600]]);
  });

  it('reads more than is near at once', () => {
    const window = new ReadWindow(100, 300);
    const bytes = window.bytes(reader(), { offset: 0, size: 1000 }, 10, 700);
    expect(bytes.equals(FILE.subarray(10, 710))).toBe(true);
  });

  it('gives a file that ends where its stretch does', () => {
    const file = new ReadWindow(100, 300).file('a', reader(), { offset: 100, size: 250 });
    const target = Buffer.alloc(200);
    expect(file.read(target, 100)).toBe(150);
    expect(target.subarray(0, 150).equals(FILE.subarray(200, 350))).toBe(true);
    expect(file.read(target.subarray(0, 20), 240)).toBe(10);
    expect(file.read(target, 250)).toBe(0);
    expect(file.read(target, 300)).toBe(0);
  });

  it('does not take for bytes what a failed read left', () => {
    const window = new ReadWindow(100, 0);
    const read = reader();
    const stretch = { offset: 0, size: 50 };
    const before = Buffer.from(window.bytes(read, stretch, 0, 10));
    expect(() => window.bytes(read, { offset: 990, size: 50 }, 0, 20)).toThrow(RangeError);
    expect(window.bytes(read, stretch, 0, 10).equals(before)).toBe(true);
  });
});
