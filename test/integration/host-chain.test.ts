import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { DeltaJob } from '../../shared/plan.ts';
import { type Fleet, fleetSkipReason, startFleet, TestMachine } from '../support/fleet.ts';
import { putTinyImage, type TinyImage } from '../support/tiny-image.ts';

const skipReason = fleetSkipReason();
const library = randomBytes(1_500_000);
const base = { 'usr/lib/base.so': randomBytes(300_000) };

let fleet: Fleet;
let machine: TestMachine;
const images: TinyImage[] = [];

async function publish(n: number): Promise<TinyImage> {
  const changed = Buffer.from(library);
  changed.write(`this is version ${n}`, 200_000 * n);
  const files = [base, { 'usr/lib/lib.so': changed, 'etc/version': `${n}\n` }];
  const image = await putTinyImage(fleet.repository, files, { tag: 'stable' });
  images.push(image);
  return image;
}

/** Has the gateway make a plain delta and sign its target. */
async function haveDelta(source: TinyImage, target: TinyImage): Promise<void> {
  const api = `${fleet.gateway.url}/v2/os/image/_snapgate`;
  const post = async (path: string, body: object) => {
    const answer = await fetch(`${api}/${path}`, { method: 'POST', body: JSON.stringify(body) });
    return (await answer.json()) as DeltaJob;
  };
  await post('plan', { target: target.stored.digest, have: [] });
  const format = 'application/vnd.snapgate.layer-delta.v1';
  const request = { source: source.config, target: target.stored.digest, format };
  await vi.waitUntil(async () => (await post('deltas', request)).state === 'done', {
    ...{ timeout: 120_000, interval: 500 },
  });
}

beforeAll(async () => {
  if (skipReason !== undefined) return;
  fleet = await startFleet();
  // A line on which a chain of small deltas is sooner there than the whole image.
  const config = { line: { bytesPerSecond: 1_000_000 } };
  machine = await TestMachine.create(fleet.gateway.url, fleet.policy, { config });
  const first = await publish(1);
  expect(await machine.snaphost('update')).toMatchObject({ status: 0 });
  const second = await publish(2);
  const third = await publish(3);
  await haveDelta(first, second);
  await haveDelta(second, third);
});

afterAll(async () => {
  if (skipReason !== undefined) return;
  await machine.remove();
  await fleet.stop();
});

describe('a machine two versions behind', () => {
  it('goes through the deltas that are there, and keeps nothing of the way', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const [first, second, third] = images as [TinyImage, TinyImage, TinyImage];
    const { json: checked } = await machine.snaphost('check');
    const ways = checked.ways as { steps: number; state: string; bytes: number }[];
    expect(ways[0]).toMatchObject({ steps: 2, state: 'ready' });
    const { json, status } = await machine.snaphost('update');
    expect(json).toMatchObject({
      ...{ from: first.stored.digest, to: third.stored.digest, method: 'delta' },
      ...{ fallbackReason: null, estimate: { bytes: ways[0]?.bytes } },
    });
    expect(status).toBe(0);
    expect(json.bytesDownloaded).toBeLessThan(json.fullBytes / 10);
    const next = join(machine.root, machine.bootsNext());
    expect(await readFile(join(next, 'etc/version'), 'utf8')).toBe('3\n');
    const held = machine.podman('images', '--no-trunc', '--format', '{{.ID}}');
    expect(held).toContain(third.config);
    expect(held).not.toContain(second.config);
    const { json: deployed } = await machine.snaphost('list');
    expect(JSON.stringify(deployed)).not.toContain(second.stored.digest);
    // What Podman has is what it would have without the way.
    const layers = machine.subvolumes().filter((path) => path.includes('/btrfs/subvolumes/'));
    expect(layers).toHaveLength(3);
  });
});
