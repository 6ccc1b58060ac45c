import { describe, expect, it } from 'vitest';
import { Bases } from '../../../gateway/delta/bases.ts';
import type { OpenedPart, OpenedStream } from '../../../gateway/delta/open-packed.ts';
import type { Source } from '../../../gateway/delta/source-choice.ts';

const MIB = 1024 ** 2;
const SPOOL = 'spool';
const source = {
  path: 'boot/initrd',
  content: { index: 0, offset: 1000, size: 20 * MIB },
} as unknown as Source;

function stream(offset: number, size: number, name?: string): OpenedStream {
  const content = { file: 'unpacked', offset, size: 3 * size };
  return {
    ...{ kind: 'packed', offset, size, format: 'xz', content, members: [] },
    ...(name === undefined ? {} : { name }),
  };
}

function raw(offset: number, size: number): OpenedPart {
  return { kind: 'raw', offset, size };
}

const old = [
  ...[raw(0, 200), stream(200, 5000, 'lib/6.1/a.ko'), raw(5200, 300)],
  ...[stream(5500, 9 * MIB, 'lib/6.1/b.ko'), stream(10 * MIB, 700, 'lib/6.1/c.ko')],
];

describe('what the parts of an archive are compared with', () => {
  it('are streams of the same name, whatever stands before them', () => {
    const bases = new Bases(source, old, SPOOL);
    expect(bases.next(stream(0, 9, 'lib/6.2/b.ko'))?.base.stream).toBe(old[3]);
    expect(bases.next(stream(9, 9, 'lib/6.1/a.ko'))?.base.stream).toBe(old[1]);
    expect(bases.next(stream(18, 9, 'lib/6.2/new.ko'))?.base.stream).toBe(old[4]);
  });

  it('are without names those in the same place', () => {
    const bases = new Bases(source, [stream(0, 10), stream(10, 10)], SPOOL);
    const found = [1, 2].map((at) => bases.next(stream(at, 5))?.base.stream?.offset);
    expect(found).toEqual([0, 10]);
  });

  it('are for small runs what stands around the same place', () => {
    const bases = new Bases(source, old, SPOOL);
    const first = bases.next(raw(0, 400))?.within;
    expect(first).toEqual({ file: SPOOL, offset: 1000, size: 400 + 64 * 1024 });
    bases.next(stream(400, 9, 'lib/6.2/b.ko'));
    const near = 5500 + 9 * MIB;
    const later = bases.next(raw(409, 400))?.within;
    const reach = 64 * 1024;
    expect(later).toEqual({ file: SPOOL, offset: 1000 + near - reach, size: 400 + 2 * reach });
    expect(bases.next(raw(809, 5 * MIB))?.within.size).toBe(20 * MIB);
  });

  it('are guesses for a few only, since each has all of it read', () => {
    const bases = new Bases(source, undefined, SPOOL);
    const found = Array.from({ length: 20 }, (_, i) => bases.next(stream(i * 10, 10, `${i}`)));
    expect(found.filter((place) => place !== undefined)).toHaveLength(8);
    expect(found[0]?.within.size).toBe(20 * MIB);
  });
});
