import { randomUUID } from 'node:crypto';
import { chmod, lstat, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseUuid } from '../../../host-client/storage/btrfs.ts';
import { Staging } from '../../../host-client/storage/staging.ts';
import { Downloads } from '../../../host-client/update/downloads.ts';
import { digestHex, sha256 } from '../../../shared/digest.ts';
import type { SendCommand } from '../../../shared/send-stream/format.ts';
import { type BtrfsMount, btrfsSkipReason, mountBtrfs } from '../../support/btrfs.ts';
import { MemoryStore } from '../../support/memory-store.ts';
import { putBytes } from '../../support/tiny-image.ts';

const skip = btrfsSkipReason();
let mount: BtrfsMount;
let staging: Staging;
let outside: string;
const ino = 300;

beforeEach(async (ctx) => {
  ctx.skip(skip !== undefined, skip);
  mount = mountBtrfs({ sizeMiB: 256 });
  outside = join(mount.path, 'outside');
  await mkdir(outside);
  await writeFile(join(outside, 'precious'), 'precious');
  staging = new Staging(join(mount.path, 'staging'), () => mount.path, undefined);
});
afterEach(async () => {
  if (skip !== undefined) return;
  expect(await readFile(join(outside, 'precious'), 'utf8')).toBe('precious');
  expect(await readdir(outside)).toEqual(['precious']);
  mount.unmount();
});

/** What no stream may lead to: the commands that name a path, each with one that leads out. */
const COMMANDS: readonly (readonly [string, readonly SendCommand[]])[] = [
  ['a file', [{ op: 'mkfile', path: '../../outside/escape', ino }]],
  ['an absolute file', [{ op: 'mkfile', path: '/outside/escape', ino }]],
  ['a folder', [{ op: 'mkdir', path: '../../outside/escape', ino }]],
  ['a link', [{ op: 'symlink', path: '../../outside/escape', ino, target: 'x' }]],
  ['a hard link from outside', [{ op: 'link', path: 'stolen', target: '../../outside/precious' }]],
  ['a move of what is outside', [{ op: 'rename', path: '../../outside/precious', to: 'stolen' }]],
  ['a deletion', [{ op: 'unlink', path: '../../outside/precious' }]],
  ['another size', [{ op: 'truncate', path: '../../outside/precious', size: 0 }]],
  [
    'a write through a link of its own',
    [
      { op: 'symlink', path: 'door', ino, target: '../../outside' },
      { op: 'truncate', path: 'door/precious', size: 0 },
    ],
  ],
  [
    'a write through an absolute link of its own',
    [
      { op: 'symlink', path: 'door', ino, target: '/outside' },
      { op: 'unlink', path: 'door/precious' },
    ],
  ],
];

describe('a btrfs stream', () => {
  it.each(COMMANDS)('does not reach out of staging by %s', async (_name, commands) => {
    await staging.clear();
    const receiver = staging.receive('layer');
    receiver.create();
    for (const command of commands) receiver.add(command);
    // It fails, or what it made is inside; the hook looks at what is outside.
    await receiver.finish().catch((thrown) => expect(thrown.code).toBe('COMMAND_FAILED'));
    await receiver.discard();
    await staging.clear();
    expect(await readdir(staging.folder)).toEqual([]);
    expect((await readdir(mount.path)).sort()).toEqual(['outside', 'staging']);
  });

  it('names no other place for its subvolume', async () => {
    await staging.clear();
    const receiver = staging.receive('layer');
    const uuid = parseUuid(randomUUID());
    receiver.add({ op: 'subvol', path: '../outside/escape', uuid, ctransid: 0 });
    await expect(receiver.finish()).rejects.toMatchObject({ code: 'COMMAND_FAILED' });
    await receiver.discard();
  });
});

describe('links that somebody left', () => {
  it('in the place of the staging folder are refused', async () => {
    await symlink(outside, staging.folder);
    await expect(staging.clear()).rejects.toMatchObject({ code: 'STORAGE_INVALID' });
  });

  it('in the staging folder go, and what they lead to stays', async () => {
    await staging.clear();
    await symlink(outside, join(staging.folder, 'layer-0'));
    await staging.clear();
    expect(await readdir(staging.folder)).toEqual([]);
  });

  it('cannot be left by others, as the folder is private', async () => {
    await staging.clear();
    expect((await lstat(staging.folder)).mode & 0o777).toBe(0o700);
    await rm(staging.folder, { recursive: true });
    await mkdir(staging.folder, { mode: 0o777 });
    await chmod(staging.folder, 0o777);
    await expect(staging.clear()).rejects.toMatchObject({ code: 'STORAGE_INVALID' });
  });

  it('in the place of a download are not written through', async () => {
    const store = new MemoryStore();
    const downloads = new Downloads(join(mount.path, 'downloads'));
    const blob = await putBytes(store, 'application/octet-stream', 'from the line');
    await mkdir(downloads.folder);
    const part = join(downloads.folder, `${digestHex(sha256('from the line'))}.part`);
    await symlink(join(outside, 'escape'), part);
    await expect(downloads.fetch(store, blob)).rejects.toThrow(/ELOOP/);
    await rm(downloads.folder, { recursive: true });
  });
});
