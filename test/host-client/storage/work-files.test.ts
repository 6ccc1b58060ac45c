import { existsSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { workFiles } from '../../../host-client/storage/work-files.ts';

const MIB = 1024 * 1024;

/** What this process has open and is no device, pipe or socket. */
const open = () =>
  readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`);
      } catch {
        return '';
      }
    })
    .filter((path) => /part/.test(path));

describe('the files kept while a delta is applied', () => {
  let base: string;
  let folder: string;
  beforeEach(() => {
    base = mkdtempSync(join(tmpdir(), 'snapgate-work-'));
    folder = join(base, 'parts');
  });
  afterEach(() => rmSync(base, { recursive: true }));

  it.each([
    ['in memory where much is free', 80 * MIB, 10 * MIB, /memfd/],
    ['on the disk where little is free', 79 * MIB, 10 * MIB, /parts/],
    ['in memory when they may well fit', 128 * MIB, 0, /memfd/],
    ['on the disk when they may not fit', 127 * MIB, 0, /parts/],
  ])('are %s', (_what, free, size, place) => {
    const file = workFiles(folder, () => free).create(size);
    expect(open()).toEqual([expect.stringMatching(place)]);
    file.write(Buffer.from('hello'), 0);
    file.write(Buffer.from('there'), 3);
    const read = Buffer.alloc(20);
    expect(file.read(read, 1)).toBe(7);
    expect(read.toString('latin1', 0, 7)).toBe('elthere');
    file.close();
    expect(open()).toEqual([]);
    if (existsSync(folder)) expect(readdirSync(folder)).toEqual([]);
  });
});
