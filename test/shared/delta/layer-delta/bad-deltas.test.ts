import { beforeAll, describe, expect, it } from 'vitest';
import { ByteWriter } from '../../../../shared/delta/layer-delta/bytes.ts';
import {
  DEFAULT_LAYER_DELTA_LIMITS,
  type LayerDeltaHeader,
  type LayerDeltaLimits,
} from '../../../../shared/delta/layer-delta/header.ts';
import { sha256 } from '../../../../shared/digest.ts';
import { fuzzLayerDelta } from '../../../fuzz/layer-delta.ts';
import { applyInMemory } from '../../../support/layer-delta.ts';
import {
  type SampleDelta,
  sampleLayerDelta,
  sampleOptions,
  streamsOf,
  withHeader,
  withStreams,
} from '../../../support/sample-layer-delta.ts';

let sample: SampleDelta;
beforeAll(async () => {
  sample = await sampleLayerDelta();
});

const apply = (delta: Buffer, limits: Partial<LayerDeltaLimits> = {}) =>
  applyInMemory(delta, sample.source, {
    ...sampleOptions,
    limits: { ...DEFAULT_LAYER_DELTA_LIMITS, ...limits },
  });

/** A delta of streams that are written by hand; those not named are empty. */
function delta(streams: Partial<Record<number, number[]>>): Buffer {
  return withStreams(
    sample.delta,
    Array.from({ length: 8 }, (_, i) => Uint8Array.from(streams[i] ?? [])),
  );
}

describe('the reader of layer deltas', () => {
  it('rebuilds the sample', async () => {
    expect((await apply(sample.delta)).equals(sample.target)).toBe(true);
  });

  it.each<[string, Partial<LayerDeltaLimits>]>([
    ['bytes of output', { maxOutputBytes: 15_359 }],
    ['bytes of a segment', { maxSegmentBytes: 1024 * 1024 }],
    ['temporary bytes', { maxTemporaryBytes: 1000 }],
    ['parts', { maxParts: 2 }],
    ['bytes of memory for an encoder', { maxEncoderBytes: 1000 }],
    ['window log', { maxWindowLog: 19 }],
  ])('refuses what needs more than is allowed: %s', async (what, limits) => {
    const refused = expect(apply(sample.delta, limits)).rejects;
    await refused.toMatchObject({ code: 'LIMIT_EXCEEDED', message: expect.stringContaining(what) });
  });

  it('refuses a source with too many entries', async () => {
    const refused = expect(apply(sample.delta, { maxSourceEntries: 5 })).rejects;
    await refused.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });

  it.each<[string, Partial<LayerDeltaHeader>]>([
    ['more output', { outputSize: 15_359 }],
    ['less output', { outputSize: 15_361 }],
    ['a larger segment', { segmentLimit: 1200 }],
    ['more temporary bytes', { temporaryLimit: 3000 }],
    ['more parts', { partLimit: 2 }],
    ['no window so large', { coders: Array(8).fill({ coder: 1, parameter: 10 }) }],
  ])('holds a delta to what it declares: %s', async (_, change) => {
    const refused = expect(apply(withHeader(sample.delta, change))).rejects;
    await refused.toMatchObject({
      code: expect.stringMatching(/^(DELTA_INVALID|LIMIT_EXCEEDED)$/),
    });
  });

  it('refuses a delta for another layer before it reads on', async () => {
    const expected = sha256('another layer');
    const refused = expect(
      applyInMemory(sample.delta, sample.source, { ...sampleOptions, expected }),
    ).rejects;
    await refused.toMatchObject({ code: 'DELTA_INVALID' });
  });

  it('refuses to go on without encoders', async () => {
    const refused = expect(applyInMemory(sample.delta, sample.source)).rejects;
    await refused.toMatchObject({ code: 'UNSUPPORTED' });
  });

  it('refuses every truncation', async () => {
    for (let length = 0; length < sample.delta.length; length += 1) {
      const refused = expect(apply(sample.delta.subarray(0, length))).rejects;
      await refused.toMatchObject({ code: 'DELTA_INVALID' });
    }
  });

  it('refuses what follows the end', async () => {
    const refused = expect(apply(Buffer.concat([sample.delta, Buffer.alloc(1)]))).rejects;
    await refused.toMatchObject({ code: 'DELTA_INVALID' });
  });

  it.each<[string, Partial<Record<number, number[]>>]>([
    ['an unknown command', { 0: [8] }],
    ['an unknown operation', { 0: [3, 1], 1: [11] }],
    ['a source before any is named', { 0: [3, 1], 1: [2], 2: [1] }],
    ['a switch to no source', { 0: [3, 1, 0], 1: [8] }],
    ['an operation of nothing', { 0: [3, 1], 1: [4], 2: [0] }],
    ['an operation of too much', { 0: [3, 1], 1: [4], 2: [2], 6: [1, 2] }],
    ['a path that leads out', { 0: [3, 1, 4], 1: [5], 7: [...Buffer.from('../a')] }],
    ['an absolute path', { 0: [3, 1, 2], 1: [5], 7: [...Buffer.from('/a')] }],
    ['an empty path', { 0: [3, 1, 0], 1: [5] }],
    ['a run beyond its operation', { 0: [3, 1, 1], 1: [5, 0], 2: [1], 4: [2], 7: [97] }],
    ['a run of no differences', { 0: [3, 2, 1], 1: [5, 0], 2: [2], 4: [1, 0], 7: [97] }],
    ['a part that was not made', { 0: [3, 1, 1], 1: [7] }],
    ['freeing a part that was not made', { 0: [7, 1] }],
    ['a part of itself', { 0: [4, 1, 1], 1: [7] }],
    ['an empty part', { 0: [4, 0] }],
    ['a recipe that was not given', { 0: [4, 1, 6, 1, 1, 1], 1: [4], 2: [1], 6: [0] }],
    ['entries before the first', { 0: [1, 1] }],
    ['entries after the last', { 0: [1, 14] }],
    ['keeping nothing', { 0: [0, 0] }],
    ['keeping more than there is', { 0: [0, 7] }],
    ['a reference of an unknown kind', { 0: [2, 3] }],
    ['the shape of no reference', { 0: [2, 2, 0] }],
    ['too many extended headers', { 0: [2, 2, 10] }],
    ['unknown fields of a header', { 0: [2, 0, 0, 0x80, 0x80, 4] }],
    ['a substitution before the first', { 0: [2, 0, 0, 1, 0] }],
    ['a name of more than there is', { 0: [2, 0, 0, 1, 255, 1, 0, 0] }],
    ['a negative size', { 0: [2, 0, 0, 2, 0xff, 0x7f] }],
    ['a number that is too long', { 0: [0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1] }],
    ['a number not in its shortest form', { 0: [0, 0x81, 0] }],
    ['an unknown mode', { 0: [3, 1, 6], 1: [10] }],
    ['a mode without a map', { 0: [3, 1, 1, 1], 1: [5, 10, 0], 2: [1], 4: [1], 7: [97] }],
    ['a map of no stretches', { 0: [3, 1, 1, 0], 1: [5, 9], 7: [97] }],
    ['a map of too many intervals', mapOf(0xff, 0xff, 0x0f)],
    ['bytes that nothing uses', { 0: [3, 1], 1: [4], 2: [1], 6: [0, 0] }],
  ])('refuses %s', async (_, streams) => {
    await expect(apply(delta(streams))).rejects.toMatchObject({ code: 'DELTA_INVALID' });
  });

  it.each<[string, Partial<Record<number, number[]>>]>([
    ['a file that is not there', { 0: [3, 1, 1], 1: [5, 2], 2: [1], 7: [98] }],
    ['bytes after the end', { 0: [3, 1, 1], 1: [5, 3], 2: [1], 3: [0xf0, 0x2e], 7: [97] }],
    ['bytes before the start', { 0: [3, 1, 1], 1: [5, 3], 2: [1], 3: [1], 7: [97] }],
    [
      'unpacking what is not packed',
      { 0: [5, 0, 1, 0, 9, 1, 9, 3, 9, 1], 1: [7, 2], 2: [9], 7: [97] },
    ],
  ])('says that the source is another: %s', async (_, streams) => {
    await expect(apply(delta(streams))).rejects.toMatchObject({ code: 'DELTA_SOURCE_MISMATCH' });
  });

  it('notices a source that is shorter', async () => {
    const files = { ...sample.source.files, a: Buffer.alloc(2999) };
    const refused = expect(applyInMemory(sample.delta, { ...sample.source, files }, sampleOptions));
    await refused.rejects.toMatchObject({ code: 'DELTA_SOURCE_MISMATCH' });
  });

  it('agrees with the simple reader on mutated deltas', async () => {
    const accepted = await fuzzLayerDelta(400, 20_261_124);
    expect(accepted).toBeGreaterThan(10);
    expect(accepted).toBeLessThan(200);
  });

  it('knows the streams of the sample', async () => {
    const streams = await streamsOf(sample.delta);
    const stored = withStreams(sample.delta, streams);
    expect((await apply(stored)).equals(sample.target)).toBe(true);
  });
});

function mapOf(...count: number[]): Partial<Record<number, number[]>> {
  return { 0: [3, 1, 1, 1, 0, 1, 0, 1, 0, 1, 0, ...count], 1: [5, 9], 7: [97] };
}

describe('numbers', () => {
  it('come back', () => {
    const out = new ByteWriter(1);
    for (const value of [0, 1, 127, 128, 16_383, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
      out.number(value);
    }
    expect(out.length).toBe(1 + 1 + 1 + 2 + 2 + 5 + 8);
  });
});
