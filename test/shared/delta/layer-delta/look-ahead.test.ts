import { describe, expect, it } from 'vitest';
import { LookAhead } from '../../../../shared/delta/layer-delta/look-ahead.ts';
import { SourceEntries } from '../../../../shared/delta/layer-delta/source-entries.ts';
import { headerStreamOf, memoryTree } from '../../../support/layer-delta.ts';
import { rawTar } from '../../../support/raw-tar.ts';

const LAST = 99;
const names = Array.from({ length: LAST + 1 }, (_, i) => `file-${i}`);

/** What a tree hears of the entries that a delta comes to. `spoil` changes the headers before. */
async function heard(pointers: readonly number[], spoil: (headers: Buffer) => void = () => {}) {
  // Every tenth is empty, and nothing has to be read of it.
  const content = (i: number) => (i % 10 === 9 ? '' : 'content');
  const tar = rawTar(names.map((name, i) => ({ name, content: content(i) })));
  const headers = await headerStreamOf(tar);
  spoil(headers);
  const read = (target: Uint8Array, offset: number) => headers.copy(target, 0, offset);
  const layer = { path: 'layer', size: headers.length, read };
  const paths: string[] = [];
  const source = { ...memoryTree({ files: {} }), expect: (path: string) => void paths.push(path) };
  const ahead = new LookAhead(source, new SourceEntries([layer], 1000));
  for (const pointer of pointers) ahead.from(pointer);
  return paths;
}

const filled = (from: number, to: number) =>
  names.slice(from, to).filter((_, i) => (from + i) % 10 !== 9);

describe('looking ahead in a source', () => {
  it('names what follows, each file once, as the delta goes on', async () => {
    expect(await heard([0])).toEqual(filled(0, 24));
    expect(await heard([0, 1, 2])).toEqual(filled(0, 26));
    expect(await heard([0, 50, 51])).toEqual([...filled(0, 24), ...filled(50, 75)]);
  });

  it('names nothing again where the delta goes back, and ends with the source', async () => {
    expect(await heard([0, 50, 2, 53])).toEqual([...filled(0, 24), ...filled(50, 77)]);
    expect(await heard([90, LAST + 1])).toEqual(filled(90, LAST + 1));
  });

  it('leaves what is wrong with the source to who needs it', async () => {
    const paths = await heard([0, 1, 2], (headers) => headers.fill(0xff, 10 * 1024, 11 * 1024));
    expect(filled(0, 24)).toEqual(expect.arrayContaining(paths));
  });
});
