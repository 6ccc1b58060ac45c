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
/** AArch64, of which the last byte says most. */
const words = fc
  .array(fc.tuple(fc.nat(0xffffff), fc.constantFrom(0x94, 0x97, 0x90, 0xf0, 0xb0, 0x14, 0x10, 0)))
  .map((all) => Buffer.concat(all.map(([low, top]) => Buffer.of(low, low >> 8, low >> 16, top))));
const position = fc.oneof(
  fc.nat(1000),
  fc.nat(2 ** 31 - 1),
  fc.maxSafeNat().map((n) => (n / 2) | 0),
);

describe('the filter of code', () => {
  it.each([
    ['x86-64', FILTER.X86_64],
    ['AArch64', FILTER.ARM64],
  ])('of %s is taken back whatever the bytes are, by both readers', (_, filter) => {
    const bytes = fc.oneof(code, words, fc.tuple(code, words).map(Buffer.concat));
    fc.assert(
      fc.property(bytes, position, fc.nat(9), (bytes, at, before) => {
        const all = Buffer.concat([Buffer.alloc(before, 0xe8), bytes, Buffer.alloc(3, 0xe8)]);
        const filtered = Buffer.from(all);
        filterCode(filter, filtered, before, bytes.length, at);
        const there = filtered.subarray(before, before + bytes.length);
        expect(simpleUnfilter(filter, there, at).equals(bytes)).toBe(true);
        unfilterCode(filter, filtered, before, bytes.length, at);
        expect(filtered.equals(all)).toBe(true);
        // And the other way about: whatever a delta holds comes from some bytes.
        unfilterCode(filter, filtered, before, bytes.length, at);
        filterCode(filter, filtered, before, bytes.length, at);
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
    filterCode(FILTER.X86_64, bytes, 0, bytes.length, 1000);
    expect([3, 20, 41].map((at) => bytes.readInt32LE(at + 1))).toEqual([6000, 6000, 6000]);
  });

  it('makes calls and pages look alike in AArch64, and changes nothing else', () => {
    const bytes = Buffer.alloc(3 * 4096);
    const position = 8192 - 2;
    for (const at of [2, 4094, 8202]) {
      const place = position + at;
      // BL to 4 * 0x8000, ADRP of page 9, and B, which stays.
      bytes.writeUInt32LE((0x94000000 | ((0x8000 - place / 4) & 0x3ffffff)) >>> 0, at);
      const pages = 9 - Math.floor((place + 4) / 4096);
      const fields = ((pages & 3) << 29) | (((pages >> 2) & 0x7ffff) << 5);
      bytes.writeUInt32LE((0x90000000 | fields | 7) >>> 0, at + 4);
      bytes.writeUInt32LE(0x14000005, at + 8);
    }
    filterCode(FILTER.ARM64, bytes, 0, bytes.length, position);
    for (const at of [2, 4094, 8202]) {
      const found = [0, 4, 8].map((i) => bytes.readUInt32LE(at + i));
      expect(found).toEqual([
        0x94008000,
        (0x90000000 | (1 << 29) | (2 << 5) | 7) >>> 0,
        0x14000005,
      ]);
    }
  });

  it.each([
    ['x86-64', FILTER.X86_64],
    ['AArch64', FILTER.ARM64],
  ])('of %s goes through a delta, beyond what one operation holds', async (_, filter) => {
    const target = Buffer.alloc(3 * MAX_FILTERED + 77);
    for (let i = 0; i < target.length; i += 1) target[i] = (i * i) >> 5;
    for (let i = 0; i + 8 < target.length; i += 11) {
      target[i] = 0xe8;
      target.writeInt32LE((i % 5) * 100 - i, i + 1);
    }
    for (let i = 0; i + 8 < target.length; i += 36) target[i + 3] = i % 5 === 0 ? 0x94 : 0x90;
    const delta = await writeLayerDelta(target, [], async (writer) => {
      const out = new ContentWriter(0);
      out.literal(target.subarray(0, 1001));
      out.literal(target.subarray(1001, 1031), filter, 1001);
      out.literal(target.subarray(1031, -50), filter, 1031);
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
    expect(await filtered(2, MAX_FILTERED)).toBe('accepted');
    expect(await filtered(2, MAX_FILTERED + 1)).toBe('DELTA_INVALID');
    expect(await filtered(3, 10)).toBe('DELTA_INVALID');
  });
});
