import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { EtcTree } from '../../../host-client/etc/entry.ts';
import { sameEntry } from '../../../host-client/etc/entry.ts';
import { mergeEtc } from '../../../host-client/etc/merge.ts';
import { scanEtc } from '../../../host-client/etc/scan.ts';

type Files = Readonly<Record<string, string>>;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'etc-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Writes files; a value that begins with `->` is a symbolic link. */
function write(name: string, files: Files): string {
  const root = join(folder, name);
  rmSync(root, { recursive: true, force: true });
  mkdirSync(root, { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    if (content.startsWith('->')) symlinkSync(content.slice(2), join(root, path));
    else writeFileSync(join(root, path), content);
  }
  return root;
}

const copy = async (from: Buffer, to: Buffer) => {
  execFileSync('cp', ['-a', '--no-target-directory', from.toString(), to.toString()]);
};

async function merge(base: Files, machine: Files, image: Files) {
  const target = write('target', image);
  const report = await mergeEtc({
    base: write('base', base),
    machine: write('machine', machine),
    target,
    copy,
  });
  const read = (path: string) => {
    try {
      return readFileSync(join(target, path), 'utf8');
    } catch {
      return undefined;
    }
  };
  return { report, read, target };
}

describe('merging /etc three ways', () => {
  it("takes the image's where the machine changed nothing", async () => {
    const { read } = await merge(
      { a: '1', gone: 'x' },
      { a: '1', gone: 'x' },
      { a: '2', b: 'new' },
    );
    expect([read('a'), read('b'), read('gone')]).toEqual(['2', 'new', undefined]);
  });

  it('keeps what the machine alone changed, added or removed', async () => {
    const { read } = await merge(
      { a: '1', b: '1' },
      { a: 'own', 'd/e': 'added' },
      { a: '1', b: '1' },
    );
    expect([read('a'), read('b'), read('d/e')]).toEqual(['own', undefined, 'added']);
  });

  it("puts the image's version beside what both changed, and says so", async () => {
    const { read, report } = await merge({ a: '1' }, { a: 'own' }, { a: '2' });
    expect([read('a'), read('a.snaphost-new')]).toEqual(['own', '2']);
    expect(report.notes).toEqual([
      "a: changed here and in the image; the image's version is a.snaphost-new",
    ]);
  });

  it('brings back a file that the machine removed and the image changed', async () => {
    const { read } = await merge({ a: '1' }, {}, { a: '2' });
    expect(read('a')).toBe('2');
  });

  it('keeps what makes the machine itself, also against a change of the image', async () => {
    const files = { 'machine-id': 'image', fstab: 'image', 'ssh/ssh_host_rsa_key': 'image' };
    const own = { 'machine-id': 'own', fstab: 'own', 'ssh/ssh_host_rsa_key': 'own' };
    const { read, report } = await merge({}, own, files);
    expect(Object.keys(files).map(read)).toEqual(['own', 'own', 'own']);
    expect(report.notes).toEqual([]);
  });

  it('merges accounts by line', async () => {
    const { read, report } = await merge(
      { passwd: 'root:x:0\nsys:x:3\n', group: 'adm:x:4:root\n' },
      { passwd: 'root:x:0\nsys:x:3\nme:x:1000\n', group: 'adm:x:4:root,me\n' },
      { passwd: 'root:x:0\nnew:x:998\nsys:x:3\n', group: 'adm:x:4:root,log\n' },
    );
    expect(read('passwd')).toBe('root:x:0\nnew:x:998\nsys:x:3\nme:x:1000\n');
    expect(read('group')).toBe('adm:x:4:root,log,me\n');
    expect(report.notes).toEqual([]);
  });

  it('names an account changed by both, and two that share a number', async () => {
    const { read, report } = await merge(
      { passwd: 'a:x:1:old\n' },
      { passwd: 'a:x:1:own\nb:x:7\n' },
      { passwd: 'a:x:1:new\nc:x:7\n' },
    );
    expect(read('passwd')).toBe('a:x:1:own\nc:x:7\nb:x:7\n');
    expect(report.notes).toEqual([
      "passwd: a was changed here and in the image; this machine's line is kept",
      'passwd: c and b share the number 7',
    ]);
  });

  it('keeps all ranges of a name in subuid', async () => {
    const { read } = await merge({}, { subuid: 'a:1:2\na:5:6\n' }, { subuid: 'b:9:9\n' });
    expect(read('subuid')).toBe('b:9:9\na:1:2\na:5:6\n');
  });

  it('never writes through a link that the image put in place of a folder', async () => {
    const outside = write('outside', { file: 'untouched' });
    const { read } = await merge({ 'd/file': '1' }, { 'd/file': 'own' }, { d: `->${outside}` });
    expect(read('d/file')).toBe('own');
    expect(readFileSync(join(outside, 'file'), 'utf8')).toBe('untouched');
    expect(read('d.snaphost-new/file')).toBe('untouched');
  });

  const files = fc.dictionary(
    fc.constantFrom('a', 'b', 'c/d', 'c/e', 'f/g/h', 'f/i'),
    fc.constantFrom('1', '2', '->x'),
    { noNullPrototype: true },
  );
  const equal = (a: EtcTree, b: EtcTree) =>
    [...new Set([...a.keys(), ...b.keys()])].filter((path) => !sameEntry(a.get(path), b.get(path)));

  it("gives the machine's tree when the image changed nothing", async () => {
    await fc.assert(
      fc.asyncProperty(files, files, async (base, machine) => {
        const { target } = await merge(base, machine, base);
        expect(equal(await scanEtc(target), await scanEtc(join(folder, 'machine')))).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  it("gives the image's tree when the machine changed nothing", async () => {
    await fc.assert(
      fc.asyncProperty(files, files, async (base, image) => {
        const { target, report } = await merge(base, base, image);
        expect(report.actions).toEqual([]);
        expect(equal(await scanEtc(target), await scanEtc(write('image', image)))).toEqual([]);
      }),
      { numRuns: 60 },
    );
  });

  it('ends, whatever the three trees are', async () => {
    await fc.assert(
      fc.asyncProperty(files, files, files, async (base, machine, image) => {
        const { target } = await merge(base, machine, image);
        const [result, own] = [await scanEtc(target), await scanEtc(join(folder, 'machine'))];
        const old = await scanEtc(join(folder, 'base'));
        for (const [path, entry] of own) {
          // What the machine alone has or changed stands in the result.
          if (entry.type !== 'directory' && !sameEntry(entry, old.get(path))) {
            expect(sameEntry(result.get(path), entry)).toBe(true);
          }
        }
      }),
      { numRuns: 100 },
    );
  });
});
