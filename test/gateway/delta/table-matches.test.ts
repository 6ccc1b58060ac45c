import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { movedProgram } from '../../../gateway/delta/address-map.ts';
import { tablesOf } from '../../../gateway/delta/address-tables.ts';
import { findMatches, flatMatches } from '../../../gateway/delta/match.ts';
import { AddressMap, MODE } from '../../../shared/delta/layer-delta/prediction.ts';

const CODE_AT = 0x1000;
const BASE = 0x40_0000;
const FUNCTIONS = 6000;

/** How a table tells of a function: by its distance from the entry, by four bytes or by eight. */
type Form = 'distance' | 'short' | 'long';

/** An ELF program: functions of random bytes, some with a few more at their end, and a table of all. */
function program(form: Form, extra: ReadonlyMap<number, number>): Buffer {
  const functions = Array.from({ length: FUNCTIONS }, (_, i) => {
    const body = Buffer.alloc(32 + (i % 7) * 16, 0x90);
    for (let at = 0; at + 4 <= body.length; at += 4) {
      body.writeUInt32LE(Math.imul(i * 64 + at, 2654435761) >>> 0, at);
    }
    return Buffer.concat([body, Buffer.alloc(extra.get(i) ?? 0, 0xcc)]);
  });
  const code = Buffer.concat(functions);
  const tableAt = Math.ceil((CODE_AT + code.length) / 4096) * 4096;
  const width = form === 'long' ? 8 : 4;
  const file = Buffer.alloc(tableAt + FUNCTIONS * width);
  code.copy(file, CODE_AT);
  let address = BASE + CODE_AT;
  for (const [i, one] of functions.entries()) {
    const at = tableAt + i * width;
    if (form === 'long') file.writeBigUInt64LE(BigInt(address), at);
    else file.writeInt32LE(form === 'short' ? address : address - (BASE + at), at);
    address += one.length;
  }
  Buffer.from('7f454c46020101', 'hex').copy(file);
  file.writeUInt16LE(2, 16);
  file.writeUInt16LE(62, 18);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(2, 56);
  const segments = [
    { flags: 5, start: CODE_AT, end: tableAt },
    { flags: 4, start: tableAt, end: file.length },
  ];
  for (const [i, { flags, start, end }] of segments.entries()) {
    const at = 64 + 56 * i;
    file.writeUInt32LE(1, at);
    file.writeUInt32LE(flags, at + 4);
    file.writeBigUInt64LE(BigInt(start), at + 8);
    file.writeBigUInt64LE(BigInt(BASE + start), at + 16);
    file.writeBigUInt64LE(BigInt(end - start), at + 32);
  }
  return file;
}

/** The whole of a buffer, as a program stands in a temporary file. */
function stretchOf(bytes: Buffer) {
  const read = (target: Uint8Array, offset: number) => {
    bytes.copy(target, 0, offset, offset + target.length);
  };
  return { read, offset: 0, size: bytes.length };
}

/** Bytes that a mode leaves of the part of a program from an offset on. */
function leftFrom(old: Buffer, fresh: Buffer, start: number, mode: number): number {
  const moved = movedProgram(
    stretchOf(old),
    stretchOf(fresh),
    flatMatches(findMatches(old, fresh)),
  );
  if (moved === undefined) return fresh.length - start;
  const map = new AddressMap(moved.map);
  let left = fresh.length - start;
  for (let i = 0; i < moved.matches.length; i += 3) {
    const [oldAt = 0, newAt = 0, length = 0] = moved.matches.subarray(i, i + 3);
    if (newAt < start) continue;
    const part = old.subarray(oldAt, oldAt + length);
    const guess = Buffer.from(part);
    map.predict(mode, guess, part, oldAt, newAt);
    for (let j = 0; j < length; j += 1) if (guess[j] === fresh[newAt + j]) left -= 1;
  }
  return left;
}

const grown = (every: number) =>
  new Map(Array.from({ length: FUNCTIONS }, (_, i) => [i, i % every === 3 ? 16 : 0] as const));

describe('tables of addresses', () => {
  it('are looked at up to a limit, however large a program has them', () => {
    const size = 40 * 2 ** 20;
    // Each word of eight bytes is an address, and a distance where that leads into the program.
    const read = (target: Uint8Array) => {
      const bytes = Buffer.from(target.buffer, target.byteOffset, target.length).fill(0);
      for (let at = 0; at < bytes.length; at += 8) bytes.writeUInt32LE(BASE + 0x2_0000, at);
    };
    const stretches = [{ offset: 0, length: size, address: BASE, isCode: false }];
    const kinds = [...tablesOf({ read, offset: 0, size, stretches }).values()];
    const totals = kinds.map((tables) => tables.reduce((sum, { length }) => sum + length, 0));
    expect(Math.max(...totals)).toBe(8 * 2 ** 20);
  });

  it.for([
    ['distance', MODE.RELATIVE_WORDS],
    ['short', MODE.ADDRESS_WORDS],
    ['long', MODE.ADDRESSES],
  ] as const)('are matched by what they point to: %s', ([form, mode]) => {
    const [old, fresh] = [program(form, new Map()), program(form, grown(40))];
    const tableAt = fresh.length - FUNCTIONS * (form === 'long' ? 8 : 4);
    const byBytes = flatMatches(findMatches(old, fresh));
    const agreeing = (matches: Float64Array) => {
      let count = 0;
      for (let i = 0; i < matches.length; i += 3) {
        const [oldAt = 0, newAt = 0, length = 0] = matches.subarray(i, i + 3);
        for (let j = 0; j < length; j += 1) {
          if (newAt + j >= tableAt && old[oldAt + j] === fresh[newAt + j]) count += 1;
        }
      }
      return count;
    };
    // Of the last block nothing is said: a table is told by whole ones.
    const left = leftFrom(old, fresh, tableAt, mode);
    expect(left).toBeLessThan((fresh.length - tableAt - agreeing(byBytes)) / 3);
  });

  it('cover the new program in order and once, whatever moved', () => {
    fc.assert(
      fc.property(
        fc.constantFrom<Form>('distance', 'short', 'long'),
        fc.array(fc.tuple(fc.nat(FUNCTIONS - 1), fc.constantFrom(1, 4, 16, 900)), {
          maxLength: 60,
        }),
        fc.array(fc.tuple(fc.nat(FUNCTIONS - 1), fc.constantFrom(1, 4, 16, 900)), {
          maxLength: 60,
        }),
        (form, before, after) => {
          const [old, fresh] = [program(form, new Map(before)), program(form, new Map(after))];
          const matches = flatMatches(findMatches(old, fresh));
          const moved = movedProgram(stretchOf(old), stretchOf(fresh), matches);
          let end = 0;
          for (let i = 0; i < (moved?.matches.length ?? 0); i += 3) {
            const [oldAt = 0, newAt = 0, length = 0] = moved?.matches.subarray(i, i + 3) ?? [];
            expect(newAt).toBeGreaterThanOrEqual(end);
            expect(length).toBeGreaterThan(0);
            expect(oldAt + length).toBeLessThanOrEqual(old.length);
            end = newAt + length;
          }
          expect(end).toBeLessThanOrEqual(fresh.length);
        },
      ),
      { numRuns: 15 },
    );
  });
});
