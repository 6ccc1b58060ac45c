import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { defaultSubvolumeSwitch } from '../../../host-client/deploy/default-subvolume.ts';
import { Deployments } from '../../../host-client/deploy/deployments.ts';
import type { HeldImage } from '../../../host-client/storage/storage.ts';
import { run } from '../../../host-client/system/run.ts';
import { sha256 } from '../../../shared/digest.ts';
import { type BtrfsMount, btrfsSkipReason, mountBtrfs } from '../../support/btrfs.ts';

const skipReason = btrfsSkipReason();
let mount: BtrfsMount;

beforeAll(() => {
  if (skipReason === undefined) mount = mountBtrfs({ sizeMiB: 256 });
});
afterAll(() => mount?.unmount());

/** Images whose top layers are subvolumes with one file. */
async function image(name: string): Promise<{ image: HeldImage; name: string; top: string }> {
  const top = join(mount.path, `layer-${name}`);
  await run('btrfs', ['subvolume', 'create', top]);
  await writeFile(join(top, 'version'), name);
  const held: HeldImage = {
    ...{ config: sha256(`config ${name}`), manifest: sha256(name), names: [], diffIds: [] },
    ...{ layerIds: [], created: undefined },
  };
  return { image: held, name: `gateway.test/os:${name}`, top };
}

/** A folder of deployments of its own, on a machine that runs the top of the file system. */
async function folder(name: string): Promise<Deployments> {
  const deployments = new Deployments(
    join(mount.path, name),
    mount.path,
    defaultSubvolumeSwitch(mount.path),
  );
  await deployments.recover();
  return deployments;
}

describe('deployments on btrfs', () => {
  it('are writable snapshots, and the switch chooses what boots', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const deployments = await folder('a');
    const one = await deployments.create(await image('a1'));
    expect(one).toMatchObject({ state: 'staged', manifest: sha256('a1') });
    expect(await readFile(join(one.path, 'version'), 'utf8')).toBe('a1');
    await writeFile(join(one.path, 'own'), 'mine');
    expect((await deployments.roles(await deployments.list())).next).toBeUndefined();
    await deployments.switchTo(one);
    const { stdout } = await run('btrfs', ['subvolume', 'get-default', mount.path]);
    expect(stdout).toContain(`ID ${one.subvolume} `);
    const two = await deployments.create(await image('a2'));
    await deployments.switchTo(two);
    const roles = await deployments.roles(await deployments.list());
    expect([roles.next?.id, roles.rollback?.id, roles.running]).toEqual([
      two.id,
      one.id,
      undefined,
    ]);
    expect(roles.next?.state).toBe('trying');
  });

  it('go back to the last one that booted and is not bad', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const deployments = await folder('b');
    const all = [];
    for (const name of ['b1', 'b2', 'b3']) {
      const one = await deployments.create(await image(name));
      await deployments.switchTo(one);
      all.push(one);
    }
    const [first, second, third] = all;
    await deployments.switchTo(second as (typeof all)[0]);
    await deployments.setState(third as (typeof all)[0], 'bad', 'it does not boot');
    const roles = await deployments.roles(await deployments.list());
    expect([roles.next?.id, roles.rollback?.id]).toEqual([second?.id, first?.id]);
  });

  it('that were not finished are removed, with what is inside of them', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const deployments = await folder('c');
    const kept = await deployments.create(await image('c1'));
    const half = await deployments.create({
      ...(await image('c2')),
      prepare: async (path) =>
        void (await run('btrfs', ['subvolume', 'create', join(path, 'etc')])),
    });
    await run('rm', [join(deployments.folder, `${half.id}.json`)]);
    const lost = await deployments.create(await image('c3'));
    await run('btrfs', ['subvolume', 'delete', lost.path]);
    await writeFile(join(deployments.folder, `${kept.id}.json.0.tmp`), 'half');
    await mkdir(join(deployments.folder, 'not-ours'));
    expect((await deployments.list()).map((one) => one.id)).toEqual([kept.id]);
    await deployments.recover();
    expect((await readdir(deployments.folder)).sort()).toEqual(
      [kept.id, `${kept.id}.json`, 'not-ours'].sort(),
    );
  });

  it('that were to boot next are removed when something else does', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const deployments = await folder('i');
    const booted = await deployments.install(await image('i1'));
    const cut = await deployments.create(await image('i2'));
    const making = join(deployments.folder, 'making.json');
    for (const { id } of [cut, booted]) {
      await writeFile(making, JSON.stringify({ id }));
      await deployments.recover();
    }
    expect((await deployments.list()).map((one) => one.id)).toEqual([booted.id]);
    expect(await readdir(deployments.folder)).not.toContain('making.json');
  });

  it('are removed with their records', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const deployments = await folder('d');
    const one = await deployments.create(await image('d1'));
    await deployments.remove(one);
    expect(await readdir(deployments.folder)).not.toContain(one.id);
    expect(await deployments.list()).toEqual([]);
  });

  it('leave nothing when their preparation fails', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const deployments = await folder('e');
    const failing = deployments.create({
      ...(await image('e1')),
      prepare: () => Promise.reject(new Error('no')),
    });
    await expect(failing).rejects.toThrow('no');
    await deployments.recover();
    expect(await readdir(deployments.folder)).toEqual([]);
  });

  it('have nothing to go back to when the machine had no system', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await run('btrfs', ['subvolume', 'set-default', '5', mount.path]);
    const deployments = await folder('f');
    await expect(deployments.switchToOrigin()).rejects.toMatchObject({ code: 'NOTHING_TO_DO' });
    await deployments.switchTo(await deployments.create(await image('f1')));
    await expect(deployments.switchToOrigin()).rejects.toMatchObject({ code: 'NOTHING_TO_DO' });
  });

  it('go back to the system that was there before them', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const before = join(mount.path, 'before');
    await run('btrfs', ['subvolume', 'create', before]);
    await run('btrfs', ['subvolume', 'set-default', before]);
    const deployments = await folder('g');
    await deployments.switchTo(await deployments.create(await image('g1')));
    await deployments.switchToOrigin();
    const { stdout } = await run('btrfs', ['subvolume', 'get-default', mount.path]);
    expect(stdout).toContain('path before');
  });

  it('need btrfs', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const elsewhere = new Deployments('/dev/shm/snapgate-none', '/', defaultSubvolumeSwitch('/'));
    await expect(elsewhere.recover()).rejects.toMatchObject({ code: 'NOT_BTRFS' });
    await run('rm', ['-r', '/dev/shm/snapgate-none']);
  });
});
