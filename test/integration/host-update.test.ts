import { randomBytes } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Fleet,
  fleetSkipReason,
  IMAGE_NAME,
  startFleet,
  TestMachine,
} from '../support/fleet.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { putTinyImage, type TinyFiles, type TinyImage } from '../support/tiny-image.ts';

const skipReason = fleetSkipReason();
const library = randomBytes(2_000_000);
const base = { 'usr/lib/base.so': randomBytes(500_000), 'etc/os-release': 'NAME=tiny\n' };
const program = { 'usr/bin/program': randomBytes(40_000) };

/** The files of a version: its first layer stays, the second changes a little, the third as well. */
function version(n: number): TinyFiles[] {
  const changed = Buffer.from(library);
  changed.write(`this is version ${n}`, 700_000);
  return [base, { 'usr/lib/lib.so': changed, 'etc/version': `${n}\n` }, program];
}

let fleet: Fleet;
let machine: TestMachine;
let images: TinyImage[];

beforeAll(async () => {
  if (skipReason !== undefined) return;
  fleet = await startFleet();
  machine = await TestMachine.create(fleet.gateway.url, fleet.policy);
  images = [];
});

afterAll(async () => {
  if (skipReason !== undefined) return;
  await machine.remove();
  await fleet.stop();
});

async function publish(n: number): Promise<TinyImage> {
  const image = await putTinyImage(fleet.repository, version(n), { tag: 'stable' });
  images[n] = image;
  return image;
}

describe('a machine with a gateway', () => {
  it('takes its first image whole', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const { stored, config } = await publish(1);
    const { status, json } = await machine.snaphost('update');
    expect(json).toMatchObject({
      from: null,
      to: stored.digest,
      method: 'full',
      fallbackReason: null,
    });
    expect(status).toBe(0);
    expect(machine.podman('images', '--no-trunc', '--quiet')).toContain(config);
    const next = machine.bootsNext();
    expect(next).toContain(`snaphost/deployments/${json.deployment}`);
    expect(await readFile(join(machine.root, next, 'etc/version'), 'utf8')).toBe('1\n');
    expect(await readdir(join(machine.root, 'var/lib/snaphost/downloads'))).toEqual([]);
  });

  it('has nothing to do the second time, for little traffic', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const { status, json } = await machine.snaphost('update');
    expect(json).toMatchObject({
      from: json.to,
      method: 'none',
      bytesDownloaded: 0,
      bytesWritten: 0,
    });
    expect(status).toBe(0);
  });

  it('says what an update would cost, and changes nothing', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const before = machine.subvolumes();
    const { stored, config } = await publish(2);
    const { json } = await machine.snaphost('check');
    expect(json).toMatchObject({ update: true, from: images[1]?.stored.digest, to: stored.digest });
    expect(json.image).toBe(`${IMAGE_NAME}:stable`);
    const full = json.ways.find((way: { method: string }) => way.method === 'full');
    // The first layer is held on the same parent, the third on another one.
    expect(full.bytes).toBe(images[2]?.layers[1]?.size);
    const delta = json.ways.find((way: { method: string }) => way.method === 'delta');
    expect(delta).toMatchObject({ state: 'absent', bytes: null, source: images[1]?.config });
    expect(machine.subvolumes()).toEqual(before);
    expect(machine.podman('images', '--no-trunc', '--quiet')).not.toContain(config);
  });

  it('updates by delta', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const { json, status } = await machine.snaphost('update');
    const [, from, to] = images;
    expect(json).toMatchObject({
      ...{ from: from?.stored.digest, to: to?.stored.digest, method: 'delta' },
      fallbackReason: null,
    });
    expect(status).toBe(0);
    expect(json.bytesDownloaded).toBeLessThan(json.fullBytes / 20);
    expect(json.bytesWritten).toBeLessThan(1_000_000);
    const next = join(machine.root, machine.bootsNext());
    expect(await readFile(join(next, 'etc/version'), 'utf8')).toBe('2\n');
    expect(await readFile(join(next, 'usr/bin/program'))).toEqual(program['usr/bin/program']);
    const { json: verified } = await machine.snaphost('verify');
    expect(verified).toMatchObject({ manifest: to?.stored.digest, signers: ['gateway'] });
    const { json: status2 } = await machine.snaphost('status');
    expect(status2).toMatchObject({
      next: { manifest: to?.stored.digest },
      rollback: { manifest: from?.stored.digest },
    });
  });

  it('goes back, and forward again without a download', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const { json } = await machine.snaphost('rollback');
    expect(json.from).toMatch(/-1$/);
    const next = join(machine.root, machine.bootsNext());
    expect(await readFile(join(next, 'etc/version'), 'utf8')).toBe('1\n');
    const again = await machine.snaphost('rollback');
    expect(again).toMatchObject({ status: 2, json: { error: { code: 'NOTHING_TO_DO' } } });
    const timer = await machine.snaphost('update', '--automatic');
    expect(timer).toMatchObject({ status: 3, json: { error: { code: 'POLICY_REFUSED' } } });
    const { json: forward } = await machine.snaphost('update');
    expect(forward).toMatchObject({ method: 'none', to: images[2]?.stored.digest });
    expect(forward.deployment).toMatch(/-2$/);
  });

  it('keeps what it needs and removes the rest', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    await publish(3);
    expect((await machine.snaphost('update')).json).toMatchObject({ method: 'delta' });
    const { json } = await machine.snaphost('gc', '--keep', '0');
    expect(json.removedDeployments).toHaveLength(2);
    expect(json.keptDeployments).toHaveLength(2);
    expect(json.removedImages).toEqual([images[1]?.config]);
    expect(json.failedImages).toEqual([]);
    const { json: list } = await machine.snaphost('list');
    expect(list.deployments.map((one: { manifest: string }) => one.manifest)).toEqual([
      images[3]?.stored.digest,
      images[2]?.stored.digest,
    ]);
    const held = machine.podman('images', '--no-trunc', '--quiet');
    expect(held).toContain(images[3]?.config);
    expect(held).not.toContain(images[1]?.config);
  });

  it('tells the gateway how it went, and of what it could not tell then', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const reports = { send: true };
    await machine.configure('http://127.0.0.1:1', { reports });
    expect((await machine.snaphost('update')).status).toBe(5);
    await machine.configure(fleet.gateway.url, { reports });
    expect((await machine.snaphost('update')).status).toBe(0);
    const told = fleet.gateway.log.filter(({ message }) => message === 'update reported');
    expect(told).toMatchObject([
      { result: 'failed', error: 'UPSTREAM_UNREACHABLE', repository: 'os/image', tag: 'stable' },
      { result: 'nothing', method: 'none', to: images[3]?.stored.digest },
    ]);
    const metrics = await (await fetch(`${fleet.gateway.url}/metrics`)).text();
    expect(metrics).toMatch(/snapgate_update_reports_total\{result="nothing".*\} 1/);
  });

  it('tells a program that listens, and whoever looks', async (ctx) => {
    ctx.skip(skipReason !== undefined, skipReason);
    const folder = await temporaryFolder(ctx);
    const events = join(folder, 'events');
    machine.runner = ['sh', '-c', `exec "$@" 3>${events}`, 'sh'];
    const { json } = await machine.snaphost('update', '--progress-fd', '3');
    machine.runner = [];
    const lines = (await readFile(events, 'utf8')).trim().split('\n');
    const told = lines.map((line) => JSON.parse(line));
    expect(told.map(({ event, step }) => step ?? event)).toEqual(['recover', 'resolve', 'end']);
    const { json: status } = await machine.snaphost('status');
    const file = join(machine.root, 'run/snaphost/status.json');
    const { written, ...shown } = JSON.parse(await readFile(file, 'utf8'));
    expect(shown).toEqual(status);
    expect(shown).toMatchObject({ version: 1, next: { manifest: json.to } });
    expect(Date.parse(written)).toBeGreaterThan(Date.parse(shown.lastAttempt.time));
    expect((await stat(file)).mode & 0o777).toBe(0o644);
  });
});
