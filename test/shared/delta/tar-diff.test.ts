import { zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SourceTree } from '../../../shared/delta/piece.ts';
import { applyTarDiff, DEFAULT_TAR_DIFF_LIMITS } from '../../../shared/delta/tar-diff.ts';
import {
  packTarDiff,
  TAR_DIFF_MAGIC,
  type TarDiffWriter,
} from '../../../shared/delta/tar-diff-writer.ts';
import { SnapgateError } from '../../../shared/errors.ts';

const packing = { level: 3, windowLog: 20 };

function tree(files: Record<string, Buffer>): SourceTree {
  return {
    open(path) {
      const bytes = files[path];
      if (bytes === undefined)
        throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'no such file', { where: path });
      return { path, size: bytes.length, read: (target, offset) => bytes.copy(target, 0, offset) };
    },
    close() {},
  };
}

async function pack(fill: (writer: TarDiffWriter) => Promise<void>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of packTarDiff(fill, packing)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function apply(
  delta: Buffer,
  files: Record<string, Buffer>,
  limits = DEFAULT_TAR_DIFF_LIMITS,
  cut = 1000,
) {
  async function* chunks() {
    for (let at = 0; at < delta.length; at += cut) yield delta.subarray(at, at + cut);
  }
  const out: Buffer[] = [];
  for await (const piece of applyTarDiff(chunks(), tree(files), limits))
    out.push(Buffer.from(piece.bytes));
  return Buffer.concat(out);
}

/** A delta of raw operation bytes, as nobody's writer would make them. */
function raw(...bytes: number[]): Buffer {
  return Buffer.concat([TAR_DIFF_MAGIC, zstdCompressSync(Buffer.from(bytes))]);
}

const operation = fc.oneof(
  fc.record({ kind: fc.constant('data' as const), bytes: fc.uint8Array({ maxLength: 3000 }) }),
  fc.record({
    kind: fc.constant('copy' as const),
    file: fc.nat(1),
    at: fc.nat(999),
    size: fc.nat(1000),
  }),
  fc.record({
    kind: fc.constant('add' as const),
    file: fc.nat(1),
    at: fc.nat(999),
    bytes: fc.uint8Array({ maxLength: 500 }),
  }),
);

describe('tar-diff', () => {
  it('rebuilds what any operations say', async () => {
    const files = [Buffer.alloc(2000, 'abcdefg'), Buffer.alloc(2000, 7)];
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 40 }), async (operations) => {
        const expected: Buffer[] = [];
        const delta = await pack(async (writer) => {
          for (const op of operations) {
            if (op.kind === 'data') {
              await writer.data(op.bytes);
              expected.push(Buffer.from(op.bytes));
              continue;
            }
            const file = files[op.file] ?? Buffer.alloc(0);
            await writer.open(`dir/${op.file}`);
            if (op.kind === 'copy') {
              await writer.copy(op.at, op.size);
              expected.push(file.subarray(op.at, op.at + op.size));
            } else {
              await writer.addData(op.at, op.bytes);
              expected.push(Buffer.from(op.bytes.map((byte, i) => byte + (file[op.at + i] ?? 0))));
            }
          }
        });
        const [a = Buffer.alloc(0), b = Buffer.alloc(0)] = files;
        expect(await apply(delta, { 'dir/0': a, 'dir/1': b })).toEqual(Buffer.concat(expected));
      }),
      { numRuns: 60 },
    );
  });

  it('keeps runs of data longer than its buffers', async () => {
    const bytes = Buffer.alloc(5_000_001, 'some text ');
    expect(
      (await apply(await pack((w) => w.data(bytes)), {}, undefined, 70_000)).equals(bytes),
    ).toBe(true);
  });

  it('says where long runs and whole files come from', async () => {
    const delta = await pack(async (writer) => {
      await writer.open('f');
      await writer.copy(10, 8000);
      await writer.copy(9000, 10);
      await writer.open('g');
      await writer.copy(0, 20);
    });
    async function* whole() {
      yield delta;
    }
    const files = { f: Buffer.alloc(10_000), g: Buffer.alloc(20) };
    const places = [];
    for await (const { source, bytes } of applyTarDiff(whole(), tree(files))) {
      places.push([source?.file.path, source?.offset, bytes.length]);
    }
    expect(places).toEqual([
      ['f', 10, 8000],
      [undefined, undefined, 10],
      ['g', 0, 20],
    ]);
  });

  const file = { f: Buffer.alloc(100) };
  it.each([
    ['an unknown operation', raw(9, 0), 'DELTA_INVALID'],
    ['a version 2 operation', raw(5, 1, 0), 'DELTA_INVALID'],
    ['a copy before any file is open', raw(2, 5), 'DELTA_INVALID'],
    ['a cut number', raw(0, 0x80), 'DELTA_INVALID'],
    ['a number beyond 2^53', raw(0, ...new Array(9).fill(0xff), 1), 'DELTA_INVALID'],
    ['a cut payload', raw(0, 5, 1, 2), 'DELTA_INVALID'],
    ['a path that leaves the tree', raw(1, 4, ...Buffer.from('../f')), 'DELTA_INVALID'],
    ['an absolute path', raw(1, 2, ...Buffer.from('/f')), 'DELTA_INVALID'],
    ['a path with a NUL', raw(1, 2, 0x66, 0), 'DELTA_INVALID'],
    ['an empty path', raw(1, 0), 'DELTA_INVALID'],
    ['a path longer than 4 KiB', raw(1, 0x81, 0x20), 'LIMIT_EXCEEDED'],
    ['a file that is not there', raw(1, 1, 0x67), 'DELTA_SOURCE_MISMATCH'],
    ['a copy beyond the end', raw(1, 1, 0x66, 2, 101), 'DELTA_SOURCE_MISMATCH'],
    ['an addition beyond the end', raw(1, 1, 0x66, 4, 99, 3, 2, 0, 0), 'DELTA_SOURCE_MISMATCH'],
    ['an addition over 100 MB', raw(1, 1, 0x66, 3, 0x81, 0x80, 0x80, 0x32), 'LIMIT_EXCEEDED'],
    ['another magic number', Buffer.from('tardf2\n\0aaaaaaaa'), 'DELTA_INVALID'],
    ['nothing', Buffer.alloc(0), 'DELTA_INVALID'],
    ['only half the magic number', Buffer.from('tardf'), 'DELTA_INVALID'],
    ['no zstd after the magic number', Buffer.from('tardf1\n\0hello, world'), 'DELTA_INVALID'],
    ['a cut zstd frame', raw(0, 3, 1, 2, 3).subarray(0, -3), 'DELTA_INVALID'],
    ['bytes after the frame', Buffer.concat([raw(0, 1, 1), Buffer.from('more')]), 'DELTA_INVALID'],
  ])('refuses %s', async (_, delta, code) => {
    await expect(apply(delta, file)).rejects.toMatchObject({ code });
  });

  it('refuses to rebuild more than it may', async () => {
    const limits = { ...DEFAULT_TAR_DIFF_LIMITS, maxOutputBytes: 1000 };
    const bomb = await pack((writer) => writer.data(Buffer.alloc(1_000_000)));
    await expect(apply(bomb, {}, limits)).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  });

  it('refuses a window beyond its limit before it takes the memory', async () => {
    const chunks: Buffer[] = [];
    const fill = (writer: TarDiffWriter) => writer.data(Buffer.alloc(100, 1));
    for await (const chunk of packTarDiff(fill, { level: 3, windowLog: 27 })) chunks.push(chunk);
    await expect(apply(Buffer.concat(chunks), {})).rejects.toMatchObject({
      code: 'LIMIT_EXCEEDED',
    });
  });
});
