import { beforeAll, describe, expect, it } from 'vitest';
import {
  END,
  endOf,
  type Header,
  headerOf,
  join,
  judge,
  numbers,
  START,
  segment,
  whole,
} from '../../../support/raw-layer-delta.ts';
import { type SampleDelta, sampleLayerDelta } from '../../../support/sample-layer-delta.ts';

/** The limits that FORMAT.md states for the container, in files written by hand. */
let sample: SampleDelta;
beforeAll(async () => {
  sample = await sampleLayerDelta();
});

describe('the header of a delta', () => {
  it.each<[string, Header, string]>([
    ['nothing special', {}, 'accepted'],
    ['flags', { flags: 1 }, 'DELTA_INVALID'],
    ['a segment limit over that of the format', { segmentLimit: 2 ** 24 + 1 }, 'DELTA_INVALID'],
    ['the smallest window', { coder: [1, 10] }, 'accepted'],
    ['too small a window', { coder: [1, 9] }, 'DELTA_INVALID'],
    ['too large a window', { coder: [1, 28] }, 'DELTA_INVALID'],
    ['the smallest dictionary', { coder: [2, 10] }, 'accepted'],
    ['too small a dictionary', { coder: [2, 9] }, 'DELTA_INVALID'],
    ['too large a dictionary', { coder: [2, 28] }, 'DELTA_INVALID'],
    ['an unknown coder', { coder: [3, 10] }, 'DELTA_INVALID'],
    ['no coder, with a parameter', { coder: [0, 1] }, 'DELTA_INVALID'],
    ['no coder', { coder: [0, 0] }, 'accepted'],
    ['too many source layers', { layers: 1025 }, 'DELTA_INVALID'],
    ['more than its fields', { more: 1 }, 'DELTA_INVALID'],
    ['more bytes than headers have', { more: 65_536 }, 'DELTA_INVALID'],
  ])('is judged with %s', async (_, header, code) => {
    expect(await judge(whole({}, header), sample)).toBe(code);
  });

  it('may name as many source layers as are allowed, if they are there', async () => {
    expect(await endOf(whole({}, { layers: 1024 }), sample)).toBe('DELTA_SOURCE_MISMATCH');
  });
});

describe('segments', () => {
  const header = headerOf({ segmentLimit: 100 });
  const literal = (count: number) => ({
    ...{ 0: join([3], numbers(count)), 1: [4] },
    ...{ 2: numbers(count), 6: Buffer.alloc(count) },
  });
  it.each<[string, () => Buffer, string]>([
    ['nothing but an end', () => join(header, END), 'DELTA_INVALID'],
    ['one without content', () => join(header, segment(START), END), 'accepted'],
    ['a first one that goes on', () => join(header, segment([1]), END), 'DELTA_INVALID'],
    ['a first one further on', () => join(header, segment([2, 1, 0]), END), 'DELTA_INVALID'],
    ['a pointer without entries', () => join(header, segment([2, 0, 1]), END), 'DELTA_INVALID'],
    ['an unknown kind', () => join(header, segment([3]), END), 'DELTA_INVALID'],
    ['several ends', () => join(header, segment(START), END, END), 'DELTA_INVALID'],
    [
      'as much as they may hold',
      () =>
        join(headerOf({ segmentLimit: 100 }, Buffer.alloc(96)), segment(START, literal(96)), END),
      'accepted',
    ],
    [
      'more than they may hold',
      () =>
        join(headerOf({ segmentLimit: 100 }, Buffer.alloc(97)), segment(START, literal(97)), END),
      'DELTA_INVALID',
    ],
    [
      'a stream of nothing',
      () => join(header, START, [1], numbers(0), numbers(1), END),
      'DELTA_INVALID',
    ],
    [
      'stored bytes of another length',
      () => join(header, START, [1], numbers(1), numbers(2 * 2 + 1), [0, 0], END),
      'DELTA_INVALID',
    ],
    [
      'packed bytes far beyond what they unpack to',
      () => join(header, START, [1], numbers(1), numbers(2 * 65_538), Buffer.alloc(65_538), END),
      'DELTA_INVALID',
    ],
    [
      'a checkpoint where it is',
      () =>
        join(headerOf({}, Buffer.alloc(5)), segment(START, literal(5)), segment([2, 5, 0]), END),
      'accepted',
    ],
    [
      'a checkpoint elsewhere',
      () =>
        join(headerOf({}, Buffer.alloc(5)), segment(START, literal(5)), segment([2, 4, 0]), END),
      'DELTA_INVALID',
    ],
    [
      'a checkpoint while a part lives',
      () =>
        join(
          header,
          segment(START, { 0: [4, 1], 1: [4], 2: [1], 6: [0] }),
          segment([2, 0, 0]),
          END,
        ),
      'DELTA_INVALID',
    ],
    [
      'a checkpoint inside a command',
      () =>
        join(
          headerOf({}, Buffer.alloc(2)),
          segment(START, { 0: [3, 2], 1: [4], 2: [1], 6: [0] }),
          segment([2, 1, 0], { 1: [4], 2: [1], 6: [0] }),
          END,
        ),
      'DELTA_INVALID',
    ],
    [
      'a command that goes on in the next',
      () =>
        join(
          headerOf({}, Buffer.alloc(2)),
          segment(START, { 0: [3, 2], 1: [4], 2: [1], 6: [0] }),
          segment([1], { 1: [4], 2: [1], 6: [0] }),
          END,
        ),
      'accepted',
    ],
    [
      'a number that goes on in the next',
      () =>
        join(
          headerOf({}, Buffer.alloc(200)),
          segment(START, { 0: [3, 0xc8] }),
          segment([1], { 0: [1], 1: [4], 2: numbers(200), 6: Buffer.alloc(200) }),
          END,
        ),
      'DELTA_INVALID',
    ],
  ])('are judged: %s', async (_, delta, code) => {
    expect(await judge(delta(), sample)).toBe(code);
  });
});

describe('numbers', () => {
  const keep = (...bytes: number[]) => whole({ 0: [1, ...bytes] });
  it.each<[string, number[], string]>([
    ['one byte', [0], 'accepted'],
    ['seven bits and no more', [0x80, 0], 'DELTA_INVALID'],
    ['more than whole numbers hold', [...Array(7).fill(0xff), 0x7f], 'DELTA_INVALID'],
    ['nine bytes', [...Array(8).fill(0x80), 1], 'DELTA_INVALID'],
    ['no last byte', [0x80], 'DELTA_INVALID'],
  ])('are judged: %s', async (_, bytes, code) => {
    expect(await judge(keep(...bytes), sample)).toBe(code);
  });
});
