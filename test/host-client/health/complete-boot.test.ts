import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Channels } from '../../../host-client/channel/channels.ts';
import type { Deployment } from '../../../host-client/deploy/deployment.ts';
import { completeBoot } from '../../../host-client/health/complete-boot.ts';
import type { Machine } from '../../../host-client/update/machine.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { storedManifest } from '../../support/tiny-image.ts';
import { folderMetadata, TestTuf } from '../../support/tuf.ts';

const PATH = 'os/image/stable';

/** A machine that has booted an image that came by a statement, with one check. */
async function scene(ctx: Parameters<typeof temporaryFolder>[0], check: string) {
  const dir = await temporaryFolder(ctx);
  const required = join(dir, 'health.d/required.d');
  await mkdir(required, { recursive: true });
  await writeFile(join(required, 'check'), `#!/bin/sh\n${check}\n`, { mode: 0o755 });
  const tuf = await TestTuf.create(join(dir, 'tuf'));
  const image = storedManifest({ schemaVersion: 2 });
  await tuf.stateChannel(PATH, image);
  await tuf.publish();
  const channels = new Channels(join(dir, 'state'));
  const anchor = (await tuf.folder.metadata('1.root.json')) ?? Buffer.alloc(0);
  const rule = { root: 'os', anchor };
  const source = folderMetadata(tuf.folder);
  const followed = await channels.follow({ rule, source, path: PATH, timeoutMs: 60_000 });
  await channels.remember(image.digest, followed);
  const running = { id: 'd1', state: 'trying', manifest: image.digest } as Deployment;
  const deployments = {
    list: async () => [running],
    roles: async () => ({ running, next: running, rollback: undefined }),
    markFailed: async () => [],
    setState: async () => {},
  };
  const config = { root: dir, health: { checkSeconds: 10, gatewaySeconds: 0 } };
  const machine = { config, deployments, channels } as unknown as Machine;
  return { channels, boot: () => completeBoot(machine, undefined, [join(dir, 'health.d')]) };
}

describe('a boot', () => {
  it('that is healthy makes its statement the floor', async (ctx) => {
    const { boot, channels } = await scene(ctx, 'exit 0');
    expect(await boot()).toMatchObject({ proved: true });
    expect(await channels.floors()).toMatchObject([{ root: 'os', role: 'targets', version: 2 }]);
  });

  it('that is not leaves the floor as it was', async (ctx) => {
    const { boot, channels } = await scene(ctx, 'exit 1');
    await expect(boot()).rejects.toMatchObject({ code: 'HEALTH_FAILED' });
    expect(await channels.floors()).toEqual([]);
  });
});
