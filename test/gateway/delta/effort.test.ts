import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { effortOf, MAX_EFFORT } from '../../../gateway/delta/effort.ts';
import { LayoutStore } from '../../../gateway/layout/layout-store.ts';
import { makeDelta } from '../../support/made-delta.ts';
import { putTinyImage } from '../../support/tiny-image.ts';

let dir: string;
let store: LayoutStore;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-effort-'));
  store = await LayoutStore.create(join(dir, 'images'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

/** Numbers that look random and are the same in every run. */
function randomNumbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** What resembles a program: few kinds of instructions, with offsets that are small or regular. */
function program(seed: number, length: number): Buffer {
  const random = randomNumbers(5);
  const kinds = Array.from({ length: 200 }, () =>
    Buffer.from(Array.from({ length: 2 + random(6) }, () => random(256))),
  );
  const next = randomNumbers(seed);
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length - 16; ) {
    const kind = kinds[Math.min(next(200), next(200), next(200))] ?? bytes;
    at += kind.copy(bytes, at);
    if (next(2) === 0) continue;
    bytes.writeInt32LE(next(4) === 0 ? next(65_536) : next(64) * 8, at);
    at += 4;
  }
  return bytes;
}

/** Two versions: functions change places, offsets change, and new functions come in. */
function versions(): readonly [Buffer, Buffer] {
  const old = program(1, 400_000);
  const random = randomNumbers(2);
  const fresh: Buffer[] = [];
  for (let at = 0; at < old.length; at += 2000) {
    const from = random(4) === 0 ? random(old.length - 2000) : at;
    const moved = Buffer.from(old.subarray(from, from + 2000));
    for (let i = random(400); i < moved.length; i += 1 + random(400)) moved[i] = random(256);
    fresh.push(moved, program(at + 3, random(1000) + 16));
  }
  return [old, Buffer.concat(fresh)];
}

describe('effort', () => {
  it('never costs bytes', async () => {
    const [old, fresh] = versions();
    await putTinyImage(store, [{ file: old }], { tag: 'v1' });
    await putTinyImage(store, [{ file: fresh }], { tag: 'v2' });
    const sizes: number[] = [];
    for (let effort = 1; effort <= MAX_EFFORT; effort += 1) {
      const made = await makeDelta(store, dir, { format: { kind: 'snapgate' }, effort });
      sizes.push(made.layers[0]?.bytes ?? 0);
    }
    expect(sizes).toEqual(sizes.toSorted((a, b) => b - a));
    expect(sizes[MAX_EFFORT - 1]).toBeLessThan(0.95 * (sizes[0] ?? 0));
  });

  it('is a number from 1 to 9', () => {
    expect(() => effortOf(0)).toThrow(RangeError);
    expect(() => effortOf(10)).toThrow(RangeError);
    expect(() => effortOf(1.5)).toThrow(RangeError);
  });
});
