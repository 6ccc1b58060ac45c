import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { rotate } from '../../../gateway/tuf/rotate.ts';
import { type ChannelQuestion, Channels } from '../../../host-client/channel/channels.ts';
import type { Digest } from '../../../shared/digest.ts';
import { tufKey } from '../../../shared/tuf/metadata.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { storedManifest } from '../../support/tiny-image.ts';
import { folderMetadata, newSigner, TestTuf } from '../../support/tuf.ts';

const HOUR_MS = 3_600_000;
const PATH = 'os/image/stable';
const manifest = (text: string) => storedManifest({ schemaVersion: 2, annotations: { text } });
const idOf = (signer: ReturnType<typeof newSigner>) => tufKey(signer.publicKey).keyID;
const later = (time: Date, hours: number) => new Date(time.getTime() + hours * HOUR_MS);

async function scene(ctx: Parameters<typeof temporaryFolder>[0]) {
  const dir = await temporaryFolder(ctx);
  const tuf = await TestTuf.create(join(dir, 'tuf'));
  const image = manifest('one');
  await tuf.stateChannel(PATH, image, { version: '1' });
  await tuf.publish();
  const anchor = await tuf.folder.metadata('1.root.json');
  const clock = { now: tuf.now };
  const channels = new Channels(join(dir, 'state'), () => clock.now);
  const follow = (more: Partial<ChannelQuestion> = {}, maximumAgeSeconds?: number) =>
    channels.follow({
      rule: {
        ...{ root: 'os', anchor: anchor ?? Buffer.alloc(0) },
        ...(maximumAgeSeconds === undefined ? {} : { maximumAgeSeconds }),
      },
      ...{ path: PATH, source: folderMetadata(tuf.folder), timeoutMs: 60_000, ...more },
    });
  /** Publishes a root in which a role has another key. */
  const replaceKey = async (role: 'targets' | 'snapshot' | 'timestamp') => {
    const heir = newSigner();
    const old = role === 'targets' ? tuf.keys.targets : [tuf.keys[role]];
    const change = { add: [heir.publicKey], remove: old.map(idOf), threshold: 1 };
    await rotate(tuf.folder, await tuf.state(), role, change, { now: tuf.now });
    if (role === 'targets') tuf.keys.targets = [heir, heir];
    else tuf.keys[role] = heir;
    await tuf.publish();
  };
  return { dir, tuf, image, clock, channels, follow, replaceKey };
}

describe('a channel', () => {
  it('means what was stated', async (ctx) => {
    const { follow, image, tuf } = await scene(ctx);
    expect(await follow()).toMatchObject({
      ...{ root: 'os', role: 'targets', version: 2, statement: { digest: image.digest } },
      confirmed: new Date(Math.floor(tuf.now.getTime() / 1000) * 1000),
    });
  });

  it('is refused when it was confirmed too long ago, or does not say when', async (ctx) => {
    const { follow, clock, tuf } = await scene(ctx);
    clock.now = later(tuf.now, 2);
    expect(await follow({}, 3 * 3600)).toBeDefined();
    await expect(follow({}, 3600)).rejects.toMatchObject({ code: 'METADATA_FROZEN' });
  });

  it('is refused when it has expired by the time that was proved, whatever the clock says', async (ctx) => {
    const { follow, clock, tuf, dir } = await scene(ctx);
    const file = join(tuf.folder.dir, 'metadata/timestamp.json');
    const old = await readFile(file);
    tuf.now = later(tuf.now, 30);
    await tuf.online();
    // A clock of the past is held up by what is signed.
    clock.now = new Date(0);
    expect((await follow()).now.getTime()).toBeGreaterThan(tuf.now.getTime() - 1000);
    await writeFile(file, old);
    await expect(follow()).rejects.toMatchObject({ code: 'METADATA_ROLLBACK' });
    // And what was proved outlives the metadata that proved it.
    const trusted = join(dir, 'state/tuf/roots/os');
    for (const name of await readdir(trusted)) {
      if (name !== 'root.json') await writeFile(join(trusted, name), '');
    }
    await expect(follow()).rejects.toMatchObject({ code: 'METADATA_EXPIRED' });
  });

  it('asks for a client that is new enough', async (ctx) => {
    const { follow, tuf } = await scene(ctx);
    await tuf.stateChannel(PATH, manifest('new'), { minimumClient: '99.0' });
    await tuf.publish();
    await expect(follow()).rejects.toMatchObject({ code: 'CLIENT_TOO_OLD' });
  });

  it('goes back to an older image when the owner says so', async (ctx) => {
    const { follow, tuf, channels, image } = await scene(ctx);
    const second = manifest('two');
    await tuf.stateChannel(PATH, second, { version: '2' });
    await tuf.publish();
    const followed = await follow();
    await channels.remember(second.digest, followed);
    await channels.raiseFloor(second.digest);
    await tuf.stateChannel(PATH, image, { version: '1' });
    await tuf.publish();
    expect((await follow()).statement).toMatchObject({ digest: image.digest, version: '1' });
  });
});

describe('the root of the policy', () => {
  it('takes the place of an older one that is trusted, and of none that is newer', async (ctx) => {
    const { follow, tuf, replaceKey, image } = await scene(ctx);
    await follow();
    const first = (await tuf.folder.metadata('1.root.json')) ?? Buffer.alloc(0);
    await replaceKey('targets');
    const second = (await tuf.folder.metadata('2.root.json')) ?? Buffer.alloc(0);
    const by = (anchor: Uint8Array) => follow({ rule: { root: 'os', anchor } });
    expect((await by(second)).statement.digest).toBe(image.digest);
    expect((await by(first)).statement.digest).toBe(image.digest);
    await replaceKey('targets');
    expect((await by(second)).version).toBe(4);
  });

  it('lets the owner begin anew, and counts when what is trusted is damaged', async (ctx) => {
    const { follow, tuf, dir, image } = await scene(ctx);
    await follow();
    const other = await TestTuf.create(join(dir, 'other'));
    const second = manifest('other');
    await other.stateChannel(PATH, second);
    await other.publish();
    const anchor = (await other.folder.metadata('1.root.json')) ?? Buffer.alloc(0);
    const source = folderMetadata(other.folder);
    const refusal = { code: 'METADATA_UNSIGNED' };
    await expect(follow({ source })).rejects.toMatchObject(refusal);
    const anew = await follow({ source, rule: { root: 'os', anchor } });
    expect(anew.statement.digest).toBe(second.digest);
    await writeFile(join(dir, 'state/tuf/roots/os/root.json'), '{"signed":');
    expect((await follow()).statement.digest).toBe(image.digest);
    expect(tuf.now).toBeDefined();
  });

  it('changes nothing in a rehearsal', async (ctx) => {
    const { follow, dir, image } = await scene(ctx);
    expect((await follow({ dryRun: true })).statement.digest).toBe(image.digest);
    await expect(readdir(join(dir, 'state'))).rejects.toThrow('ENOENT');
  });
});

describe('the floor', () => {
  it('rises only with an image that proved good', async (ctx) => {
    const { follow, channels, image } = await scene(ctx);
    await channels.remember(image.digest, await follow());
    expect(await channels.floors()).toEqual([]);
    await channels.raiseFloor(`sha256:${'0'.repeat(64)}` as Digest);
    expect(await channels.floors()).toEqual([]);
    await channels.raiseFloor(image.digest);
    expect(await channels.floors()).toMatchObject([{ root: 'os', role: 'targets', version: 2 }]);
  });

  it('holds against old statements after the online keys were replaced', async (ctx) => {
    const { follow, channels, tuf, replaceKey } = await scene(ctx);
    const second = manifest('two');
    await tuf.stateChannel(PATH, second);
    await tuf.publish();
    await channels.remember(second.digest, await follow());
    await channels.raiseFloor(second.digest);
    await replaceKey('snapshot');
    await replaceKey('timestamp');
    // Whoever has the online keys alone vouches for what the owner said before.
    await rm(join(tuf.folder.dir, 'metadata/3.targets.json'));
    await tuf.online();
    await expect(follow()).rejects.toMatchObject({
      code: 'METADATA_ROLLBACK',
      message: 'targets 2 is older than 3, by which this machine runs',
    });
  });

  it('ends when the keys of its role are replaced', async (ctx) => {
    const { follow, channels, tuf, replaceKey } = await scene(ctx);
    const stolen = manifest('stolen');
    for (let i = 0; i < 3; i += 1) {
      await tuf.stateChannel(PATH, stolen);
      await tuf.publish();
    }
    await channels.remember(stolen.digest, await follow());
    await channels.raiseFloor(stolen.digest);
    expect(await channels.floors()).toMatchObject([{ version: 5 }]);
    await replaceKey('targets');
    const good = manifest('good');
    await tuf.stateChannel(PATH, good);
    await tuf.publish();
    expect((await follow()).statement.digest).toBe(good.digest);
  });
});
