import { describe, expect, it } from 'vitest';
import { MergedTree } from '../../../gateway/delta/merged-tree.ts';
import type { TarEntry, TarEntryType } from '../../../shared/tar/entry.ts';

const BLANK = {
  ...{ linkPath: '', mode: 0o644, uid: 0, gid: 0, mtime: { seconds: 0, nanoseconds: 0 }, size: 0 },
  ...{ realSize: 0, sparse: undefined, devMajor: 0, devMinor: 0, xattrs: [] },
};

/** `path` is a file, `path/` a folder, `path -> x` a symlink, `path = x` a hard link, `path !` a device. */
function entryOf(text: string): TarEntry {
  const [path = '', kind, linkPath = ''] = text.split(' ');
  const types: Record<string, TarEntryType> = { '->': 'symlink', '=': 'hardlink', '!': 'char' };
  const type = types[kind ?? ''] ?? (path.endsWith('/') ? 'directory' : 'file');
  return { ...BLANK, path, type, linkPath };
}

/** Lays layers over each other; the content of a file is the number of its layer. */
function merge(...layers: string[][]): Record<string, number> {
  const tree = new MergedTree<number>();
  for (const [i, layer] of layers.entries()) {
    tree.beginLayer();
    for (const text of layer) tree.apply(entryOf(text), i + 1);
  }
  return Object.fromEntries([...tree.files()].sort());
}

describe('MergedTree', () => {
  it('lays files over files and keeps the rest', () => {
    const merged = merge(['./', './a/', 'a/x', 'a/y', 'b'], ['a/', 'a/x', 'c/d/e']);
    expect(merged).toEqual({ 'a/x': 2, 'a/y': 1, b: 1, 'c/d/e': 2 });
  });

  it('takes away what a whiteout names, whole folders too', () => {
    expect(merge(['a/x', 'a/y', 'b/c/d'], ['a/.wh.x', '.wh.b', '.wh.none'])).toEqual({ 'a/y': 1 });
  });

  it('hides lower files below an opaque folder, wherever the marker stands', () => {
    const lower = ['a/x', 'a/sub/y', 'a/kept/z', 'b'];
    const upper = ['a/', 'a/new', 'a/kept/', 'a/kept/w'];
    const wanted = { 'a/new': 2, 'a/kept/w': 2, b: 1 };
    expect(merge(lower, ['a/.wh..wh..opq', ...upper])).toEqual(wanted);
    expect(merge(lower, [...upper, 'a/.wh..wh..opq'])).toEqual(wanted);
  });

  it('replaces a folder by a file and a file by a folder', () => {
    expect(merge(['a/x/y', 'b'], ['a', 'b/', 'b/z'])).toEqual({ a: 2, 'b/z': 2 });
    expect(merge(['a/x'], ['a -> elsewhere'])).toEqual({});
    expect(merge(['a/x', 'b'], ['a !', 'b !'])).toEqual({});
  });

  it('keeps a folder that is named again', () => {
    expect(merge(['a/x'], ['a/'])).toEqual({ 'a/x': 1 });
  });

  it('gives hard links the content of what they are linked to, for as long as they live', () => {
    expect(merge(['x', 'y = x'], ['z = y', '.wh.x'])).toEqual({ y: 1, z: 1 });
    expect(merge(['x', 'y = x'], ['x'])).toEqual({ x: 2, y: 1 });
    expect(merge(['d/x', 'y = ./d/x'])).toEqual({ 'd/x': 1, y: 1 });
    expect(merge(['x', 'y = /x'])).toEqual({ x: 1, y: 1 });
    expect(merge(['s -> x', 'x', 'y = s'])).toEqual({ x: 1 });
  });

  it('takes the last of repeated paths', () => {
    const tree = new MergedTree<string>();
    tree.beginLayer();
    for (const content of ['first', 'last']) tree.apply(entryOf('x'), content);
    expect([...tree.files()]).toEqual([['x', 'last']]);
  });

  it('follows symbolic links of folders inside the root', () => {
    expect(merge(['usr/lib/', 'lib -> usr/lib'], ['lib/x'])).toEqual({ 'usr/lib/x': 2 });
    expect(merge(['usr/lib/', 'lib -> /usr/lib'], ['lib/x'])).toEqual({ 'usr/lib/x': 2 });
    expect(merge(['a/', 'a/up -> ../../../etc', 'etc/'], ['a/up/x'])).toEqual({ 'etc/x': 2 });
    expect(merge(['usr/lib/x', 'lib -> usr/lib'], ['lib/.wh.x'])).toEqual({});
  });

  it('passes over what AUFS left at the top', () => {
    expect(merge(['x', '.wh..wh.plnk/', '.wh..wh.plnk/1.2', '.wh..wh.aufs'])).toEqual({ x: 1 });
  });

  it.each([
    ['an absolute path', ['/etc/passwd']],
    ['a path upwards', ['a/../../x']],
    ['a path that only looks harmless', ['a/../x']],
    ['a hard link upwards', ['x', 'y = ../x']],
    ['a hard link to nothing', ['y = x']],
    ['a hard link to itself', ['x', 'x = x']],
    ['a hard link to a folder', ['d/', 'y = d']],
    ['a parent that is a file', ['x', 'x/y']],
    ['a parent that leads nowhere', ['l -> nowhere', 'l/x']],
    ['a parent that leads in a circle', ['l -> m', 'm -> l', 'l/x']],
    ['a whiteout of nothing', ['a/.wh.']],
    ['a whiteout of the folder itself', ['a/.wh..']],
    ['a whiteout upwards', ['a/b/.wh...']],
    ['a root that is no folder', ['.']],
  ])('refuses %s', (_, layer) => {
    expect(() => merge(layer)).toThrow(expect.objectContaining({ code: 'TAR_INVALID' }));
  });
});
