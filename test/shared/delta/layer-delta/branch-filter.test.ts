import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  FILTER,
  filterCode,
  MAX_FILTERED,
  unfilterCode,
} from '../../../../shared/delta/layer-delta/branch-filter.ts';
import { ContentWriter } from '../../../../shared/delta/layer-delta/content-writer.ts';
import { applyInMemory, writeLayerDelta } from '../../../support/layer-delta.ts';
import { join, judge, numbers, whole } from '../../../support/raw-layer-delta.ts';
import { sampleLayerDelta } from '../../../support/sample-layer-delta.ts';
import { simpleUnfilter } from '../../../support/simple-filter.ts';
import { simpleApply } from '../../../support/simple-layer-delta-reader.ts';

const opcode = fc.constantFrom(0xe8, 0xe8, 0x48, 0x4f, 0x8b, 0x8d, 0x05, 0x3d, 0, 0xff, 1, 0xff, 0);
const code = fc
  .array(fc.oneof(opcode, opcode, fc.nat(255)), { maxLength: 600 })
  .map((bytes) => Buffer.from(bytes));
const position = fc.oneof(
  fc.nat(1000),
  fc.nat(2 ** 31 - 1),
  fc.maxSafeNat().map((n) => (n / 2) | 0),
);

describe('the filter of code', () => {
  it('is taken back whatever the bytes are, by both readers', () => {
    fc.assert(
      fc.property(code, position, fc.nat(9), (bytes, at, before) => {
        const all = Buffer.concat([Buffer.alloc(before, 0xe8), bytes, Buffer.alloc(3, 0xe8)]);
        const filtered = Buffer.from(all);
        filterCode(filtered, before, bytes.length, at);
        const there = filtered.subarray(before, before + bytes.length);
        expect(simpleUnfilter(there, at).equals(bytes)).toBe(true);
        unfilterCode(filtered, before, bytes.length, at);
        expect(filtered.equals(all)).toBe(true);
        // And the other way about: whatever a delta holds comes from some bytes.
        unfilterCode(filtered, before, bytes.length, at);
        filterCode(filtered, before, bytes.length, at);
        expect(filtered.equals(all)).toBe(true);
      }),
      { numRuns: 1000 },
    );
  });

  it('makes calls of one function look alike', () => {
    const bytes = Buffer.alloc(64, 0x90);
    for (const at of [3, 20, 41]) {
      bytes[at] = 0xe8;
      bytes.writeInt32LE(5000 - (at + 5), at + 1);
    }
    filterCode(bytes, 0, bytes.length, 1000);
    expect([3, 20, 41].map((at) => bytes.readInt32LE(at + 1))).toEqual([6000, 6000, 6000]);
  });

  it('goes through a delta, beyond what one operation holds', async () => {
    const target = Buffer.alloc(3 * MAX_FILTERED + 77);
    for (let i = 0; i < target.length; i += 1) target[i] = (i * i) >> 5;
    for (let i = 0; i + 8 < target.length; i += 11) {
      target[i] = 0xe8;
      target.writeInt32LE((i % 5) * 100 - i, i + 1);
    }
    const delta = await writeLayerDelta(target, [], async (writer) => {
      const out = new ContentWriter(0);
      out.literal(target.subarray(0, 1001));
      out.literal(target.subarray(1001, 1031), FILTER.X86_64, 1001);
      out.literal(target.subarray(1031, -50), FILTER.X86_64, 1031);
      out.literal(target.subarray(-50));
      await writer.stream(target.length, [], out.finish());
    });
    expect((await applyInMemory(delta, { files: {} })).equals(target)).toBe(true);
    expect(simpleApply(delta, { files: {} }).equals(target)).toBe(true);
  });

  it('is refused when it is unknown, or for more bytes than it may have', async () => {
    const sample = await sampleLayerDelta();
    const filtered = (filter: number, length: number) => {
      const streams = {
        0: join([3], numbers(length), numbers(filter)),
        ...{ 1: [11, 4], 2: numbers(length), 6: Buffer.alloc(length) },
      };
      return judge(whole(streams, {}, Buffer.alloc(length)), sample);
    };
    expect(await filtered(1, MAX_FILTERED)).toBe('accepted');
    expect(await filtered(1, MAX_FILTERED + 1)).toBe('DELTA_INVALID');
    expect(await filtered(0, MAX_FILTERED + 1)).toBe('accepted');
    expect(await filtered(2, 10)).toBe('DELTA_INVALID');
  });
});
