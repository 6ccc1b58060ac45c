import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SnapgateError } from '../../../shared/errors.ts';
import { crc32c } from '../../../shared/send-stream/crc32c.ts';
import { decodeSendStream } from '../../../shared/send-stream/decoder.ts';
import { SendStreamEncoder, streamHeader } from '../../../shared/send-stream/encoder.ts';
import {
  ATTRIBUTES,
  type Attribute,
  COMMANDS,
  type CommandName,
  encodeDevice,
  type SendCommand,
} from '../../../shared/send-stream/format.ts';

function encode(commands: readonly SendCommand[], version: 1 | 2 = 1): Buffer {
  const encoder = new SendStreamEncoder(version, 64);
  for (const command of commands) encoder.add(command);
  return Buffer.concat([streamHeader(version), encoder.take()]);
}

const safeInteger = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const KINDS = {
  text: fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes).toString('latin1')),
  bytes: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  u64: safeInteger,
  u32: fc.integer({ min: 0, max: 0xffffffff }),
  time: fc.record({
    seconds: fc.maxSafeInteger(),
    nanoseconds: fc.integer({ min: 0, max: 999_999_999 }),
  }),
};
const command = fc.constantFrom(...(Object.keys(COMMANDS) as CommandName[])).chain((op) => {
  const attributes: readonly Attribute[] = COMMANDS[op].attributes;
  const values = attributes.map((name) => [name, KINDS[ATTRIBUTES[name].kind]]);
  return fc.record({ op: fc.constant(op), ...Object.fromEntries(values) });
}) as fc.Arbitrary<SendCommand>;

describe('CRC32C', () => {
  it('has the known value of the check string', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0x58e3fa20);
  });

  it('is the same in one go and in parts', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), fc.nat(64), (bytes, cut) => {
        const at = Math.min(cut, bytes.length);
        const parts = crc32c(bytes, at, bytes.length, crc32c(bytes, 0, at));
        expect(parts).toBe(crc32c(bytes));
      }),
    );
  });
});

describe('send stream', () => {
  it('writes the bytes that btrfs writes', () => {
    expect(streamHeader(1).toString('hex')).toBe('62747266732d73747265616d0001000000');
    const end = encode([{ op: 'end' }]).subarray(17);
    expect(end.toString('hex')).toBe('000000001500506cc99d');
    const chmod = encode([{ op: 'chmod', path: 'a', mode: 0o644 }]).subarray(17);
    expect(chmod.toString('hex')).toBe(
      '1100000012008c6266f10f000100610500' + '0800a401000000000000',
    );
  });

  it('is decoded to what was encoded, in both versions', () => {
    fc.assert(
      fc.property(
        fc.array(command),
        fc.constantFrom(1 as const, 2 as const),
        (commands, version) => {
          const stream = encode(commands, version);
          const decoded = [...decodeSendStream(stream)];
          expect(decoded).toEqual(commands);
          expect(encode(decoded, version)).toEqual(stream);
        },
      ),
    );
  });

  it('takes long data in version 2 alone', () => {
    const write: SendCommand = { op: 'write', path: 'a', offset: 0, data: Buffer.alloc(100_000) };
    expect([...decodeSendStream(encode([write], 2))]).toEqual([write]);
    expect(() => encode([write], 1)).toThrow(/100000 bytes/);
  });

  it('refuses every damaged stream with an error of its own', () => {
    const stream = encode([
      { op: 'mkfile', path: 'a', ino: 0 },
      { op: 'write', path: 'a', offset: 0, data: Buffer.from('content') },
      { op: 'end' },
    ]);
    for (let at = 0; at < stream.length; at += 1) {
      const damaged = Buffer.from(stream);
      damaged[at] = (damaged[at] ?? 0) ^ 0x41;
      expect(() => [...decodeSendStream(damaged)], `byte ${at}`).toThrow(SnapgateError);
    }
  });

  it('throws nothing but its own error, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        // A right checksum lets the attributes be reached.
        const body = Buffer.concat([Buffer.alloc(10), bytes]);
        body.writeUInt32LE(bytes.length, 0);
        body.writeUInt16LE((bytes[0] ?? 0) % 26, 4);
        body.writeUInt32LE(crc32c(body), 6);
        try {
          for (const _ of decodeSendStream(Buffer.concat([streamHeader(2), body])));
        } catch (error) {
          expect(error).toBeInstanceOf(SnapgateError);
        }
      }),
    );
  });
});

describe('device numbers', () => {
  it('are encoded as the kernel does', () => {
    expect(encodeDevice(1, 3)).toBe(0x103);
    expect(encodeDevice(8, 0x12345)).toBe((0x45 | (8 << 8) | (0x12300 << 12)) >>> 0);
  });
});
