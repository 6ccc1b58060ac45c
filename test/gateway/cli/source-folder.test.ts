import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openSourceFolder } from '../../../gateway/cli/source-folder.ts';
import type { SourceFile, SourceTree } from '../../../shared/delta/piece.ts';

let dir: string;
let tree: SourceTree;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-tree-'));
  mkdirSync(join(dir, 'root/usr/lib'), { recursive: true });
  writeFileSync(join(dir, 'outside'), 'secret');
  writeFileSync(join(dir, 'root/usr/lib/file'), 'content');
  tree = openSourceFolder(join(dir, 'root'));
});
afterEach(async () => {
  tree.close();
  await rm(dir, { recursive: true, force: true });
});

const link = (target: string, name: string) => symlinkSync(target, join(dir, 'root', name));
function text(file: SourceFile): string {
  const buffer = Buffer.alloc(file.size);
  return buffer.toString('utf8', 0, file.read(buffer, 0));
}
const refused = expect.objectContaining({ code: 'DELTA_SOURCE_MISMATCH' });

it('opens files, also through links, which stay inside the tree', () => {
  link('usr/lib', 'lib');
  link('/usr/lib/file', 'absolute');
  link('../../../../../usr/lib/file', 'climbing');
  for (const path of ['usr/lib/file', 'lib/file', 'absolute', 'climbing', '/usr/lib/file']) {
    expect(text(tree.open(path))).toBe('content');
  }
});

it('opens files whose names are not ASCII, through links that are not either', () => {
  const byte = (name: string) => Buffer.from(join(dir, 'root', name), 'latin1');
  writeFileSync(byte('\xff\xfe'), 'content');
  symlinkSync(Buffer.from('\xff\xfe', 'latin1'), byte('\xe9'));
  writeFileSync(join(dir, 'root', 'käse'), 'content');
  for (const path of ['\xff\xfe', '\xe9', Buffer.from('käse').toString('latin1')]) {
    expect(text(tree.open(path))).toBe('content');
  }
});

it('reads from an offset and nothing past the end', () => {
  const file = tree.open('usr/lib/file');
  const buffer = Buffer.alloc(10);
  expect([file.size, file.read(buffer, 4), file.read(buffer, 7)]).toEqual([7, 3, 0]);
});

it('refuses what is outside, missing or no regular file', () => {
  link('../outside', 'out');
  link(join(dir, 'outside'), 'far');
  link('loop', 'loop');
  execFileSync('mkfifo', [join(dir, 'root/fifo')]);
  for (const path of ['out', 'far', '../outside', 'loop', 'fifo', 'usr', 'nothing', 'a\0b', '']) {
    expect(() => tree.open(path), path).toThrow(refused);
  }
});

it('keeps few files open and still reads all of them', () => {
  const names = Array.from({ length: 200 }, (_, i) => `f${i}`);
  for (const name of names) writeFileSync(join(dir, 'root', name), name);
  const files = names.map((name) => tree.open(name));
  expect(files.map(text)).toEqual(names);
  expect(readdirSync('/proc/self/fd').length).toBeLessThan(150);
});
