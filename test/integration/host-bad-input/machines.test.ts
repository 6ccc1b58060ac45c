import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { FileLock } from '../../../host-client/system/file-lock.ts';
import { digestHex } from '../../../shared/digest.ts';
import { SNAPHOST, TestMachine } from '../../support/fleet.ts';
import { isBlob, useOfferedUpdate } from '../../support/offered-update.ts';
import { tarOf } from '../../support/tiny-image.ts';

const offer = useOfferedUpdate();

describe('a machine', () => {
  it('whose Podman is busy', async () => {
    const path = join(offer.machine.root, 'var/lib/containers/storage/btrfs-layers/layers.lock');
    const busy = () => new Error('locked already') as never;
    const lock = await FileLock.acquire(path, { timeoutMs: 0, busy });
    const answer = await offer.machine.snaphost('update', '--full');
    lock[Symbol.dispose]();
    expect(answer).toMatchObject({ status: 7, json: { error: { code: 'STORAGE_BUSY' } } });
    expect(offer.look()).toEqual(offer.state);
  });

  it('with a disk that is full', async (ctx) => {
    // Zeros pack so well that only writing them shows how large they are.
    const layer = await offer.layerOf(await tarOf({ zeros: Buffer.alloc(300_000_000) }));
    await offer.publish([layer]);
    const plain = { storage: { compress: 'none' } };
    const small = await TestMachine.create(offer.proxy.url, offer.fleet.policy, {
      ...{ sizeMiB: 160, config: plain },
    });
    ctx.onTestFinished(() => small.remove());
    await mkdir(join(small.root, 'var/lib/snaphost'), { recursive: true });
    const answer = await small.snaphost('update');
    expect(answer).toMatchObject({ status: 6, json: { error: { code: 'NO_SPACE' } } });
    expect(small.subvolumes()).toEqual([]);
    expect(small.podman('images', '--quiet')).toBe('');
  });

  it('that runs two updates at once', async () => {
    await offer.machine.configure(offer.proxy.url);
    const stalled = Promise.withResolvers<() => void>();
    offer.proxy.handle = ({ pass }) => {
      offer.proxy.handle = undefined;
      stalled.resolve(() => void pass());
    };
    const first = offer.machine.snaphost('update', '--download-only', '--full');
    const release = await stalled.promise;
    const second = await offer.machine.snaphost('update');
    expect(second).toMatchObject({ status: 7, json: { error: { code: 'ALREADY_RUNNING' } } });
    release();
    expect(await first).toMatchObject({ status: 0, json: { method: 'full' } });
    expect(offer.look()).toEqual(offer.state);
  });

  it('that is killed in the middle of a download goes on at the last byte', async () => {
    const { digest } = offer.layer;
    await rm(offer.downloads, { recursive: true, force: true });
    const half = Promise.withResolvers<void>();
    offer.proxy.handle = ({ request, response, pass }) => {
      if (!isBlob(digest, request.url)) return pass();
      return pass((answer) => {
        response.writeHead(200, { 'content-length': String(answer.body.length) });
        response.write(answer.body.subarray(0, 200_000), () => half.resolve());
        return undefined;
      });
    };
    const argv = [SNAPHOST, 'update', '--full', '--root', offer.machine.root];
    const child = spawn(process.execPath, argv, { stdio: 'ignore' });
    await half.promise;
    const arrived = () =>
      stat(join(offer.downloads, `${digestHex(digest)}.part`)).then(({ size }) => size);
    while ((await arrived().catch(() => 0)) === 0) await sleep(20);
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(offer.look()).toEqual(offer.state);
    const ranges: (string | undefined)[] = [];
    offer.proxy.handle = ({ request, pass }) => {
      if (isBlob(digest, request.url)) ranges.push(request.headers.range);
      return pass();
    };
    const { json } = await offer.machine.snaphost('update', '--full');
    expect(json).toMatchObject({ method: 'full', to: offer.good.stored.digest });
    expect(ranges).toEqual([expect.stringMatching(/^bytes=[1-9]\d*-$/)]);
  });
});
