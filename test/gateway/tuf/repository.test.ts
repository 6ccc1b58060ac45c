import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { delegate, removeTarget } from '../../../gateway/tuf/edit.ts';
import { publishStaged } from '../../../gateway/tuf/publish.ts';
import { rotate } from '../../../gateway/tuf/rotate.ts';
import { signStaged } from '../../../gateway/tuf/sign.ts';
import { signingOf } from '../../../gateway/tuf/state.ts';
import { tufKey } from '../../../shared/tuf/metadata.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { storedManifest } from '../../support/tiny-image.ts';
import { newSigner, roleOf, TestTuf, TufClient } from '../../support/tuf.ts';

const DAY_MS = 86_400_000;
const manifest = (text: string) =>
  storedManifest({ schemaVersion: 2, layers: [], annotations: { text } });
const idOf = (signer: ReturnType<typeof newSigner>) => tufKey(signer.publicKey).keyID;

async function started(ctx: Parameters<typeof temporaryFolder>[0]) {
  const dir = await temporaryFolder(ctx);
  const tuf = await TestTuf.create(join(dir, 'tuf'));
  const client = await TufClient.of(tuf, join(dir, 'client'));
  const [one, two] = [manifest('one'), manifest('two')];
  await tuf.stateChannel('os/image/stable', one, { version: '1.2', minimumClient: '0.1' });
  await tuf.publish();
  return { tuf, client, one, two, time: { now: tuf.now } };
}

describe('a repository', () => {
  it('states what a channel means, until it states something else', async (ctx) => {
    const { tuf, client, one, two, time } = await started(ctx);
    expect((await client.find('os/image/stable')).statement).toEqual({
      ...{ path: 'os/image/stable', digest: one.digest, length: one.bytes.length },
      ...{ version: '1.2', minimumClient: '0.1' },
      images: [{ platform: 'linux/amd64', config: one.digest }],
    });
    await expect(client.find('os/image/beta')).rejects.toMatchObject({ code: 'CHANNEL_UNKNOWN' });
    await tuf.stateChannel('os/image/stable', two);
    await tuf.stateChannel('os/image/beta', one);
    await tuf.publish();
    expect((await client.find('os/image/stable')).statement.digest).toBe(two.digest);
    expect((await client.find('os/image/beta')).statement.digest).toBe(one.digest);
    await removeTarget(tuf.folder, await tuf.state(), 'targets', 'os/image/beta', time);
    await tuf.publish();
    await expect(client.find('os/image/beta')).rejects.toMatchObject({ code: 'CHANNEL_UNKNOWN' });
  });

  it('is published only with signatures of enough different keys', async (ctx) => {
    const { tuf, time } = await started(ctx);
    await rotate(
      ...([tuf.folder, await tuf.state(), 'root'] as const),
      ...([{ add: [], remove: [], threshold: undefined }, time] as const),
    );
    const [first, second] = tuf.keys.root;
    for (const signer of [first, first]) await signStaged(tuf.folder, await tuf.state(), signer);
    const unsigned = { code: 'METADATA_UNSIGNED', message: 'root 2: 1 of 2 signatures' };
    await expect(publishStaged(tuf.folder, await tuf.state())).rejects.toMatchObject(unsigned);
    const stranger = signStaged(tuf.folder, await tuf.state(), newSigner());
    await expect(stranger).rejects.toMatchObject({ code: 'KEY_INVALID' });
    await signStaged(tuf.folder, await tuf.state(), second);
    expect(signingOf(await tuf.state())).toMatchObject([{ role: 'root', complete: true }]);
    expect(await publishStaged(tuf.folder, await tuf.state())).toHaveLength(1);
    expect((await tuf.state()).staged.size).toBe(0);
  });

  it('gives its roles other keys, and revokes', async (ctx) => {
    const { tuf, client, one } = await started(ctx);
    const thief = tuf.keys.targets[0];
    const heir = newSigner();
    const change = { add: [heir.publicKey], remove: [idOf(thief).slice(0, 12)], threshold: 2 };
    await rotate(tuf.folder, await tuf.state(), 'targets', change, { now: tuf.now });
    await expect(tuf.publish()).rejects.toMatchObject({ code: 'METADATA_UNSIGNED' });
    await tuf.publish([heir]);
    expect((await client.find('os/image/stable')).statement.digest).toBe(one.digest);
    await tuf.stateChannel('os/image/stable', manifest('stolen'));
    await expect(signStaged(tuf.folder, await tuf.state(), thief)).rejects.toMatchObject({
      code: 'KEY_INVALID',
    });
  });

  it('lets a role speak of the repositories of a pattern and of no others', async (ctx) => {
    const { tuf, client, one, two, time } = await started(ctx);
    const team = newSigner();
    const asked = { ...roleOf([team], 1), pattern: 'apps/*' };
    await delegate(tuf.folder, await tuf.state(), 'apps', asked, time);
    await tuf.publish([team]);
    await tuf.stateChannel('apps/a/b/stable', two, {}, 'apps');
    const elsewhere = tuf.stateChannel('os/image/stable', two, {}, 'apps');
    await expect(elsewhere).rejects.toMatchObject({ code: 'USAGE' });
    await tuf.publish([team]);
    expect(await client.find('apps/a/b/stable')).toMatchObject({
      ...{ role: 'apps', keyIDs: [idOf(team)], statement: { digest: two.digest } },
    });
    expect((await client.find('os/image/stable')).statement.digest).toBe(one.digest);
  });

  it('signs online what changed or is half over, and nothing else', async (ctx) => {
    const { tuf } = await started(ctx);
    expect(await tuf.online()).toEqual({ snapshot: undefined, timestamp: undefined });
    tuf.now = new Date(tuf.now.getTime() + DAY_MS / 2 + 1000);
    expect(await tuf.online()).toEqual({ snapshot: undefined, timestamp: 3 });
    tuf.now = new Date(tuf.now.getTime() + 4 * DAY_MS);
    expect(await tuf.online()).toEqual({ snapshot: 3, timestamp: 4 });
    tuf.keys.timestamp = newSigner();
    await expect(tuf.online()).rejects.toMatchObject({ code: 'KEY_INVALID' });
  });

  it('keeps the target file beside its metadata', async (ctx) => {
    const { tuf, one } = await started(ctx);
    const name = `os/image/${one.digest.slice('sha256:'.length)}.stable`;
    expect(await tuf.folder.target(name)).toEqual(Buffer.from(one.bytes));
    const { dir } = tuf.folder;
    expect(await readFile(join(dir, 'targets', name))).toEqual(Buffer.from(one.bytes));
    for (const other of [`../targets/${name}`, name.slice(0, -1), 'os/image', `os//${name}`]) {
      expect(await tuf.folder.target(other)).toBeUndefined();
    }
  });
});
