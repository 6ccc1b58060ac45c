import { beforeAll, describe, expect, it } from 'vitest';
import { applyInMemory } from '../../../support/layer-delta.ts';
import {
  type Bytes,
  endOf,
  type Header,
  join,
  judge,
  numbers,
  whole,
} from '../../../support/raw-layer-delta.ts';
import {
  type SampleDelta,
  sampleLayerDelta,
  sampleOptions,
} from '../../../support/sample-layer-delta.ts';

/** The limits that FORMAT.md states for contents, each met and each exceeded by one. */
let sample: SampleDelta;
beforeAll(async () => {
  sample = await sampleLayerDelta();
});

describe('operations', () => {
  const path = (length: number) => Buffer.alloc(length, 'p');
  const sources = (count: number) =>
    whole(
      {
        0: join([3], numbers(1), ...Array.from({ length: count }, () => [1])),
        ...{ 1: join(Buffer.alloc(count, 5), [2]), 2: [1], 7: Buffer.alloc(count, 'a') },
      },
      {},
      sample.source.files.a?.subarray(0, 1),
    );

  it('name at most 4096 sources', async () => {
    expect(await judge(sources(4096), sample)).toBe('accepted');
    expect(await judge(sources(4097), sample)).toBe('DELTA_INVALID');
  });

  it('name paths of at most 4096 bytes', async () => {
    const named = (length: number) =>
      whole({ 0: join([3, 1], numbers(length)), 1: [5], 7: path(length) }, { size: 1 });
    expect(await judge(named(4096), sample)).toBe('DELTA_SOURCE_MISMATCH');
    expect(await judge(named(4097), sample)).toBe('DELTA_INVALID');
  });

  it('have maps of at most 64 stretches and 262144 intervals that do not go back', async () => {
    const mapped = (stretches: number, intervals: number, starts: Bytes) =>
      whole({
        0: join(
          [3, 1, 1],
          numbers(stretches),
          ...Array.from({ length: stretches }, () => [0, 1, 0]),
          numbers(1),
          [0, 1, 0],
          numbers(intervals),
        ),
        ...{ 1: [5, 9], 2: starts, 3: Buffer.alloc(starts.length), 7: Buffer.from('a') },
      });
    // What is right with the map goes wrong only because nothing follows it.
    const messageOf = (delta: Buffer) =>
      applyInMemory(delta, sample.source, sampleOptions).catch((thrown: Error) => thrown.message);
    const afterwards = await messageOf(mapped(1, 1, [0]));
    expect(await messageOf(mapped(64, 1, [0]))).toBe(afterwards);
    expect(await messageOf(mapped(65, 1, [0]))).not.toBe(afterwards);
    expect(await messageOf(mapped(1, 262_144, Buffer.alloc(262_144)))).toBe(afterwards);
    expect(await messageOf(mapped(1, 262_145, Buffer.alloc(262_145)))).not.toBe(afterwards);
    for (const delta of [mapped(65, 1, [0]), mapped(0, 1, [0]), mapped(1, 0, [])]) {
      expect(await judge(delta, sample)).toBe('DELTA_INVALID');
    }
  });

  it('predict at most 65536 bytes at once', async () => {
    const size = 70_000;
    const files = { ...sample.source.files, a: Buffer.alloc(size) };
    const add = (length: number) =>
      whole(
        {
          0: join(
            [3],
            numbers(length),
            [1, 1, 0],
            numbers(size),
            [0, 1, 0],
            numbers(size),
            [0, 1, 1],
          ),
          ...{ 1: [5, 9, 10, 0], 2: join([0], numbers(length)), 3: [0], 4: numbers(length) },
          7: Buffer.from('a'),
        },
        {},
        Buffer.alloc(length),
      );
    const apply = (delta: Buffer) =>
      applyInMemory(delta, { ...sample.source, files }, sampleOptions);
    expect(await apply(add(65_536))).toHaveLength(65_536);
    await expect(apply(add(65_537))).rejects.toMatchObject({ code: 'DELTA_INVALID' });
  });
});

describe('parts', () => {
  const build = (size: number, count: number, header: Header) =>
    whole(
      {
        0: join(...Array.from({ length: count }, () => join([4], numbers(size)))),
        ...{ 1: Buffer.alloc(count, 4) },
        2: join(...Array.from({ length: count }, () => numbers(size))),
        6: Buffer.alloc(size * count),
      },
      header,
    );

  it('stay within what the header declares', async () => {
    expect(await judge(build(10, 3, { temporary: 30, parts: 3 }), sample)).toBe('accepted');
    expect(await judge(build(10, 3, { temporary: 29, parts: 3 }), sample)).toBe('DELTA_INVALID');
    expect(await judge(build(10, 3, { temporary: 30, parts: 2 }), sample)).toBe('DELTA_INVALID');
  });

  /** A part of one byte, and what is made of it by recipes of so many bytes each. */
  const encoded = (...recipes: readonly number[]) =>
    whole(
      {
        0: join([4, 1], ...recipes.map((length, i) => join([6], numbers(i + 1, 0, length, 1)))),
        ...{ 1: [4], 2: [1], 6: [0] },
        7: Buffer.alloc(
          recipes.reduce((sum, length) => sum + length, 0),
          'r',
        ),
      },
      { parts: 100 },
    );

  it('are packed by recipes of bounded length', async () => {
    // What is a recipe's length is wrong; what is only no recipe shows when it is read.
    const messageOf = (delta: Buffer) =>
      applyInMemory(delta, sample.source, sampleOptions).catch((thrown: Error) => thrown.message);
    const unreadable = await messageOf(encoded(100));
    expect(await messageOf(encoded(65_536))).toBe(unreadable);
    expect(await messageOf(encoded(65_537))).not.toBe(unreadable);
    expect(await messageOf(encoded(0))).not.toBe(unreadable);
  });

  it('are packed by recipes that are bounded together', async () => {
    const good = Buffer.from('gnu-gzip level=9');
    const padded = (length: number) => {
      const hex = '00'.repeat((length - good.length - 7) >> 1);
      return Buffer.from(`${good.toString()} frame=${hex}`);
    };
    const each = padded(65_536 - 1);
    const many = (count: number) =>
      whole(
        {
          0: join(
            [4, 1],
            ...Array.from({ length: count }, (_, i) =>
              join([6], numbers(i + 1, 0, each.length, 1)),
            ),
          ),
          ...{ 1: [4], 2: [1], 6: [0] },
          7: join(...Array.from({ length: count }, () => each)),
        },
        { parts: 100 },
      );
    expect(await endOf(many(16), sample)).toBe('accepted');
    expect(await endOf(many(17), sample)).toBe('DELTA_INVALID');
  });

  it('are unpacked from something to something, by a known method', async () => {
    const unpack = (length: number, method: number, size: number) =>
      whole({
        0: join([5, 0, 1, 0], numbers(length), [method], numbers(size)),
        7: Buffer.from('a'),
      });
    expect(await judge(unpack(0, 1, 1), sample)).toBe('DELTA_INVALID');
    expect(await judge(unpack(1, 1, 0), sample)).toBe('DELTA_INVALID');
    expect(await endOf(unpack(1, 6, 1), sample)).toBe('UNSUPPORTED');
    expect(await endOf(unpack(3001, 1, 1), sample)).toBe('DELTA_SOURCE_MISMATCH');
  });
});
