import { describe, expect, it } from 'vitest';
import type { ParentTree } from '../../../host-client/storage/parent-tree.ts';
import { LayerTranslator } from '../../../host-client/storage/translator.ts';
import type { Piece, SourceFile } from '../../../shared/delta/piece.ts';
import type { SendCommand } from '../../../shared/send-stream/format.ts';
import { readTar } from '../../../shared/tar/reader.ts';
import { type RawEntry, rawTar } from '../../support/raw-tar.ts';

const UUID = Buffer.alloc(16, 7);

/** A parent layer that holds these files, links (`-> target`) and the folders above them. */
function parentOf(paths: Readonly<Record<string, string>>): ParentTree {
  const all = Object.entries(paths);
  const isFolder = (path: string) => all.some(([name]) => name.startsWith(`${path}/`));
  return {
    lookup(path) {
      const link = /^-> (.*)/.exec(paths[path] ?? '')?.[1];
      if (link !== undefined) return { kind: 'symlink', link, setgid: false };
      if (path in paths) return { kind: 'file', link: '', setgid: false };
      return isFolder(path) ? { kind: 'directory', link: '', setgid: false } : undefined;
    },
    list(path) {
      const below = all.filter(([name]) => path === '' || name.startsWith(`${path}/`));
      return [
        ...new Set(
          below.map(([name]) => name.slice(path ? path.length + 1 : 0).split('/')[0] ?? ''),
        ),
      ];
    },
  };
}

async function translate(
  entries: readonly RawEntry[],
  parent: ParentTree = parentOf({}),
  source?: (bytes: Uint8Array) => Piece['source'],
): Promise<SendCommand[]> {
  const commands: SendCommand[] = [];
  const findClone = (file: SourceFile) => ({ uuid: UUID, path: file.path });
  const add = (command: SendCommand) => {
    commands.push('data' in command ? { ...command, data: Buffer.from(command.data) } : command);
  };
  const translator = new LayerTranslator(parent, add, findClone);
  async function* pieces(): AsyncGenerator<Piece> {
    const tar = rawTar(entries);
    for (let at = 0; at < tar.length; at += 512) yield { bytes: tar.subarray(at, at + 512) };
  }
  for await (const event of readTar(pieces())) {
    const found = event.kind === 'content' ? source?.(event.piece.bytes) : undefined;
    const sourced =
      event.kind === 'content' && found
        ? {
            ...event,
            piece: { bytes: event.piece.bytes, source: { ...found, offset: event.offset } },
          }
        : event;
    await translator.handle(sourced);
  }
  translator.finish();
  return commands;
}

/** Operation and path of each command. */
const short = (commands: readonly SendCommand[]) =>
  commands.map((command) => ('path' in command ? `${command.op} ${command.path}` : command.op));

describe('the translation of a layer', () => {
  it('sets the time of a directory when it goes on elsewhere, and again when it comes back', async () => {
    const commands = await translate([
      { name: 'd', type: '5', mtime: 5 },
      { name: 'd/a' },
      { name: 'd/e/', type: '5', mtime: 6 },
      { name: 'd/e/x' },
      { name: 'f' },
      { name: 'd/e/y' },
      { name: 'g' },
    ]);
    const steps = commands.filter(({ op }) => op === 'utimes' || op === 'mkfile');
    expect(short(steps).filter((step) => !/utimes .*[afgxy]$/.test(step))).toEqual([
      ...['mkfile d/a', 'mkfile d/e/x', 'utimes d', 'utimes d/e', 'mkfile f'],
      ...['mkfile d/e/y', 'utimes d/e', 'mkfile g'],
    ]);
    const times = commands.flatMap((command) =>
      command.op === 'utimes' && command.path === 'd/e' ? [command.mtime.seconds] : [],
    );
    expect(times).toEqual([6, 6]);
  });

  it('sets owner, mode, attributes and times in the order in which none undoes another', async () => {
    const commands = await translate([
      { name: 'd', type: '5', mode: 0o700 },
      {
        name: 'd/f',
        content: 'x',
        uid: 5,
        gid: 6,
        mode: 0o4755,
        mtime: 7,
        xattrs: { 'user.a': 'b' },
      },
    ]);
    expect(short(commands)).toEqual([
      ...['mkdir d', 'chown d', 'chmod d'],
      ...['mkfile d/f', 'write d/f', 'chown d/f', 'chmod d/f', 'setXattr d/f', 'utimes d/f'],
      'utimes d',
    ]);
    expect(commands[5]).toMatchObject({ uid: 5, gid: 6 });
    expect(commands[8]).toMatchObject({ mtime: { seconds: 7, nanoseconds: 0 } });
  });

  it('makes a root of its own when there is no parent', async () => {
    expect(await translate([], parentOf({}))).toEqual([]);
    const root: SendCommand[] = [];
    new LayerTranslator(undefined, (command) => root.push(command)).finish();
    expect(root).toEqual([
      { op: 'chown', path: '', uid: 0, gid: 0 },
      { op: 'chmod', path: '', mode: 0o555 },
    ]);
  });

  it('removes all that is in a folder before the folder', async () => {
    const parent = parentOf({ 'd/e/f': '', 'd/g': '', other: '' });
    const commands = await translate(
      [{ name: '.wh.d' }, { name: 'd/e/new', content: '1' }],
      parent,
    );
    expect(short(commands).slice(0, 6)).toEqual([
      ...['unlink d/e/f', 'rmdir d/e', 'unlink d/g', 'rmdir d'],
      ...['mkdir d', 'chmod d'],
    ]);
  });

  it('keeps what the layer itself names under an opaque folder', async () => {
    const parent = parentOf({ 'd/old': '', 'd/kept/old': '' });
    const commands = await translate(
      [{ name: 'd/kept', type: '5' }, { name: 'd/new' }, { name: 'd/.wh..wh..opq' }],
      parent,
    );
    const removals = short(commands).filter((text) => /^(unlink|rmdir)/.test(text));
    expect(removals.sort()).toEqual(['unlink d/kept/old', 'unlink d/old']);
  });

  it('never writes twice in a row to one path', async () => {
    const commands = await translate([
      { name: 'a', content: '1' },
      { name: 'a', content: '2' },
      { name: 'a', content: '3' },
    ]);
    const writes = commands.filter((command) => command.op === 'write').map(({ path }) => path);
    expect(writes.length).toBe(3);
    expect(writes.filter((path, i) => path === writes[i - 1])).toEqual([]);
    const renames = commands.filter((command) => command.op === 'rename');
    expect(renames.map(({ to }) => to)).toEqual(['a']);
    expect(short(commands).filter((text) => text === 'unlink a').length).toBe(2);
  });

  it('writes by another name that is not taken', async () => {
    const parent = parentOf({ '.snapgate-rewritten-1': '' });
    const commands = await translate(
      [
        { name: 'a', content: '1' },
        { name: 'a', content: '2' },
      ],
      parent,
    );
    expect(commands.find((command) => command.op === 'rename')).toMatchObject({
      path: '.snapgate-rewritten-2',
    });
  });

  it('follows links of the parent inside the tree', async () => {
    const parent = parentOf({
      'usr/lib/x': '',
      lib: '-> usr/lib',
      'a/up': '-> ../usr',
      abs: '-> /usr',
    });
    const commands = await translate(
      [{ name: 'lib/y' }, { name: 'a/up/z' }, { name: 'abs/lib/w' }],
      parent,
    );
    const made = short(commands).filter((text) => text.startsWith('mkfile'));
    expect(made).toEqual(['mkfile usr/lib/y', 'mkfile usr/z', 'mkfile usr/lib/w']);
  });

  it('splits long content into what version 1 of the format can hold', async () => {
    const commands = await translate([{ name: 'a', content: Buffer.alloc(200_000, 1) }]);
    const sizes = commands.flatMap((command) =>
      command.op === 'write' ? [command.data.length] : [],
    );
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(200_000);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(48 * 1024);
  });
});

describe('content that stands in a source', () => {
  const content = (size: number) => Buffer.alloc(size, 3);
  const sourceOf = (size: number): SourceFile => ({
    ...{ path: 'source', size },
    read: (target) => target.fill(3).length,
  });
  const clones = async (size: number, sourceSize: number) => {
    const file = sourceOf(sourceSize);
    const found = () => ({ file, offset: 0 });
    const commands = await translate([{ name: 'a', content: content(size) }], parentOf({}), found);
    return commands.flatMap((command) => {
      if (command.op === 'clone') return [`clone ${command.offset}+${command.length}`];
      return command.op === 'write' ? [`write ${command.offset}+${command.data.length}`] : [];
    });
  };

  it('is cloned whole when both files end there', async () => {
    expect(await clones(10_000, 10_000)).toEqual(['clone 0+10000']);
    expect(await clones(100, 100)).toEqual(['clone 0+100']);
  });

  it('is cloned in whole blocks when the source goes on', async () => {
    expect(await clones(10_000, 20_000)).toEqual(['clone 0+8192', 'write 8192+1808']);
    expect(await clones(8192, 20_000)).toEqual(['clone 0+8192']);
    expect(await clones(100, 20_000)).toEqual(['write 0+100']);
  });
});
