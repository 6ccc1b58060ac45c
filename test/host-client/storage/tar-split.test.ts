import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Crc64 } from '../../../host-client/storage/crc64.ts';
import { parseTarSplitLine, TarSplitWriter } from '../../../host-client/storage/tar-split.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { readTar } from '../../../shared/tar/reader.ts';
import { plainPieces } from '../../support/podman-storage.ts';
import { type RawEntry, rawTar } from '../../support/raw-tar.ts';

async function record(entries: readonly RawEntry[]): Promise<string[]> {
  const lines: string[] = [];
  const writer = new TarSplitWriter((line) => lines.push(line));
  for await (const event of readTar(plainPieces(rawTar(entries), 999))) writer.handle(event);
  writer.finish();
  return lines;
}

describe('CRC-64', () => {
  it('has the known value of the check string', () => {
    const crc = new Crc64();
    crc.update(Buffer.from('123456789'));
    expect(crc.digest().toString('hex')).toBe('b90956c775a41001');
  });

  it('is the same in one go and in parts', () => {
    const sum = (...parts: Uint8Array[]) => {
      const crc = new Crc64();
      for (const part of parts) crc.update(part);
      return crc.digest().toString('hex');
    };
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(40), (bytes, cut) => {
        expect(sum(bytes.subarray(0, cut), bytes.subarray(cut))).toBe(sum(bytes));
      }),
    );
  });
});

describe('tar-split record', () => {
  it('is what Podman writes, line by line', async () => {
    const lines = await record([
      { name: 'etc/a', content: 'hello' },
      { name: 'n\xff' },
      { name: 'etc/a', content: 'again' },
    ]);
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      { type: 2, payload: expect.any(String), position: 0 },
      { type: 1, name: 'etc/a', size: 5, payload: 'PD7u4tgQAAA=', position: 1 },
      { type: 2, payload: expect.any(String), position: 2 },
      { type: 1, name_raw: 'bv8=', payload: null, position: 3 },
      // The second of a name is kept as bytes.
      { type: 2, payload: expect.any(String), position: 4 },
    ]);
  });

  it('gives back every byte that is not content of a file', async () => {
    const entries = [
      { name: 'a', content: 'x'.repeat(5000) },
      { name: 'd', type: '5' },
    ];
    const parts = (await record(entries)).map((line) => {
      const entry = parseTarSplitLine(line);
      return entry.kind === 'bytes' ? entry.bytes : Buffer.alloc(entry.size, 'x');
    });
    expect(Buffer.concat(parts).equals(rawTar(entries))).toBe(true);
  });

  it.each([
    ...['', 'x', 'null', '[]', '{}', '{"type":1}', '{"type":2}', '{"type":3,"payload":""}'],
    '{"type":1,"name":"a","size":-1}',
    '{"type":1,"name":"a","size":1.5}',
    '{"type":1,"name":7}',
  ])('refuses the line %s', (line) => {
    expect(() => parseTarSplitLine(line)).toThrow(SnapgateError);
  });
});
