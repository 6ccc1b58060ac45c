import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { rotate } from '../../../gateway/tuf/rotate.ts';
import { Channels } from '../../../host-client/channel/channels.ts';
import { statusCommand } from '../../../host-client/cli/status.ts';
import type { Machine } from '../../../host-client/update/machine.ts';
import { machineStatus } from '../../../host-client/update/status.ts';
import { tufKey } from '../../../shared/tuf/metadata.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { storedManifest } from '../../support/tiny-image.ts';
import { folderMetadata, newSigner, TestTuf } from '../../support/tuf.ts';

const PATH = 'os/image/stable';
const NAME = 'gateway.test/os/image';
const unknown = { digest: null, statement: null, confirmed: null, expires: null, floor: null };

/** A machine whose policy asks for a channel, in which one image is stated. */
async function scene(ctx: Parameters<typeof temporaryFolder>[0]) {
  const dir = await temporaryFolder(ctx);
  const tuf = await TestTuf.create(join(dir, 'tuf'));
  const image = storedManifest({ schemaVersion: 2 });
  await tuf.stateChannel(PATH, image, { version: '2026.4' });
  await tuf.publish();
  const anchor = (await tuf.folder.metadata('1.root.json')) ?? Buffer.alloc(0);
  const policy = join(dir, 'policy.json');
  const { pem } = newSigner().publicKey;
  const writePolicy = (rule: object) =>
    writeFile(
      policy,
      JSON.stringify({
        ...{ version: 1, keys: { k: { pem } }, channelRoots: { os: JSON.parse(String(anchor)) } },
        rules: [{ repository: NAME, images: { signers: ['k'] }, ...rule }],
      }),
    );
  const channels = new Channels(join(dir, 'state'));
  const config = { policy, name: NAME, repository: 'os/image', tag: 'stable', gateways: [] };
  const machine = {
    ...{ channels, config, state: { lastAttempt: async () => undefined } },
    deployments: { list: async () => [], roles: async () => ({}) },
  } as unknown as Machine;
  const follow = () =>
    channels.follow({
      ...{ rule: { root: 'os', anchor }, source: folderMetadata(tuf.folder) },
      ...{ path: PATH, timeoutMs: 60_000 },
    });
  await writePolicy({ channel: { root: 'os' } });
  return { dir, tuf, image, policy, writePolicy, channels, machine, follow };
}

async function textOf(machine: Machine): Promise<string> {
  const text: string[] = [];
  const out = { write: (part: string) => text.push(part) };
  statusCommand.print?.(await machineStatus(machine), { out } as never);
  return text.join('');
}

describe('the status of a channel', () => {
  it('says what was accepted last, and until when', async (ctx) => {
    const { tuf, image, machine, channels, follow } = await scene(ctx);
    const followed = await follow();
    const confirmed = new Date(Math.floor(tuf.now.getTime() / 1000) * 1000);
    const timestamp = JSON.parse(String(await tuf.folder.metadata('timestamp.json')));
    expect((await machineStatus(machine)).channel).toEqual({
      ...{ path: PATH, root: 'os', digest: image.digest, version: '2026.4' },
      ...{ role: 'targets', statement: 2, confirmed: confirmed.toISOString(), floor: null },
      // The timestamp is what lasts shortest.
      expires: new Date(timestamp.signed.expires).toISOString(),
    });
    expect(await textOf(machine)).toMatch(
      /channel: {3}os\/image\/stable means sha256:[0-9a-f]{12}, version 2026\.4\n +stated by targets, statement 2\n +confirmed at 2.*, expires 2.*\n +no floor yet\n$/,
    );
    await channels.remember(image.digest, followed);
    await channels.raiseFloor(image.digest);
    expect(await machineStatus(machine)).toMatchObject({ channel: { floor: 2 } });
    expect(await textOf(machine)).toMatch(/ floor: statement 2\n$/);
  });

  it('names no floor that ended with the keys of its role', async (ctx) => {
    const { tuf, image, machine, channels, follow } = await scene(ctx);
    await channels.remember(image.digest, await follow());
    await channels.raiseFloor(image.digest);
    const heir = newSigner();
    const remove = tuf.keys.targets.map(({ publicKey }) => tufKey(publicKey).keyID);
    const change = { add: [heir.publicKey], remove, threshold: 1 };
    await rotate(tuf.folder, await tuf.state(), 'targets', change, { now: tuf.now });
    tuf.keys.targets = [heir, heir];
    await tuf.publish();
    await follow();
    expect(await machineStatus(machine)).toMatchObject({ channel: { statement: 3, floor: null } });
  });

  it('knows nothing before the first update, and keeps nothing', async (ctx) => {
    const { dir, machine } = await scene(ctx);
    const names = await readdir(dir);
    expect((await machineStatus(machine)).channel).toMatchObject({ path: PATH, ...unknown });
    expect(await textOf(machine)).toContain('os/image/stable, no statement yet (root os)\n');
    expect(await readdir(dir)).toEqual(names);
  });

  it('is nothing where the policy asks for none, or cannot be read', async (ctx) => {
    const { machine, writePolicy, policy, follow } = await scene(ctx);
    await follow();
    await writePolicy({});
    expect((await machineStatus(machine)).channel).toBeNull();
    expect(await textOf(machine)).not.toContain('channel');
    await writeFile(policy, '{');
    expect((await machineStatus(machine)).channel).toBeNull();
  });
});
