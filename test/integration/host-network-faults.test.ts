import { randomBytes } from 'node:crypto';
import { readdirSync, statSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type FaultyLine, startFaultyLine } from '../support/faulty-line.ts';
import { type Fleet, fleetSkipReason, startFleet, TestMachine } from '../support/fleet.ts';
import { NetworkNamespace } from '../support/network-namespace.ts';
import { putTinyImage, type TinyImage } from '../support/tiny-image.ts';

const skipReason = fleetSkipReason();
const BLOB_BYTES = 300_000;
/** No deltas: what is counted here is whole blobs. */
const CONFIG = { smallestDelta: 1_000_000_000 };

let fleet: Fleet;
let machine: TestMachine;
let line: FaultyLine;
let version = 0;

const portOf = (url: string) => Number(new URL(url).port);

/** Publishes another version: one layer of noise, which no delta makes smaller. */
async function publish(bytes = BLOB_BYTES): Promise<TinyImage> {
  version += 1;
  const files = { 'etc/version': `${version}\n`, 'usr/noise': randomBytes(bytes) };
  return putTinyImage(fleet.repository, [files], { tag: 'stable', packing: 'none' });
}

/** What must not change when an update fails. */
function before() {
  const state = { boots: machine.bootsNext(), subvolumes: machine.subvolumes() };
  return () =>
    ({ boots: machine.bootsNext(), subvolumes: machine.subvolumes() }) satisfies typeof state;
}

/** Bytes of the blob that is on its way. */
function partBytes(): number {
  const folder = join(machine.root, 'var/lib/snaphost/downloads');
  const parts = readdirSync(folder).filter((name) => name.endsWith('.part'));
  return parts.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

beforeAll(async () => {
  if (skipReason !== undefined) return;
  fleet = await startFleet();
  line = await startFaultyLine(portOf(fleet.gateway.url));
  machine = await TestMachine.create(line.url, fleet.policy, { config: CONFIG });
  await publish();
  expect((await machine.snaphost('update')).status).toBe(0);
});

afterAll(async () => {
  if (skipReason !== undefined) return;
  await line.stop();
  await machine.remove();
  await fleet.stop();
});

beforeEach((ctx) => {
  ctx.skip(skipReason !== undefined, skipReason);
  line.fault = {};
  line.target = portOf(fleet.gateway.url);
});

describe('over a line that', () => {
  it.each([
    ['loses 1 % of all segments', { loss: 0.01 }, BLOB_BYTES],
    ['loses 30 % of all segments', { loss: 0.3 }, 60_000],
    ['takes 2 s there and back', { delayMs: 1000 }, 60_000],
    ['has 64 kbit/s', { bytesPerSecond: 8000 }, 60_000],
  ] as const)('%s, an update comes whole', async (_, fault, bytes) => {
    const image = await publish(bytes);
    line.fault = fault;
    const received = line.received;
    const { status, json } = await machine.snaphost('update');
    expect(json).toMatchObject({ to: image.stored.digest, method: 'full' });
    expect(status).toBe(0);
    expect(line.received - received).toBeLessThan(bytes + 40_000);
  });

  it('resets connections, an update goes on at the byte', async () => {
    const image = await publish();
    line.fault = { resetAfter: 100_000 };
    line.ranges.length = 0;
    const { status, json } = await machine.snaphost('update');
    expect(json).toMatchObject({ to: image.stored.digest });
    expect(status).toBe(0);
    expect(line.resets).toBeGreaterThan(1);
    expect(line.ranges.length).toBeGreaterThan(1);
    expect(line.ranges).toEqual([...line.ranges].sort((a, b) => a - b));
  });

  it('resets them all the time, an update ends, and the next one goes on', async () => {
    const image = await publish();
    const unchanged = before();
    const state = unchanged();
    line.fault = { resetAfter: 30_000 };
    const cut = await machine.snaphost('update');
    expect(cut).toMatchObject({ status: 5, json: { error: { code: 'UPSTREAM_UNREACHABLE' } } });
    expect(unchanged()).toEqual(state);
    const there = partBytes();
    expect(there).toBeGreaterThan(0);
    line.fault = {};
    line.ranges.length = 0;
    const { json } = await machine.snaphost('update');
    expect(json).toMatchObject({ to: image.stored.digest });
    expect(line.ranges).toEqual([there]);
  });

  it('ends in a page that asks for a login, an update changes nothing', async () => {
    const image = await publish();
    const unchanged = before();
    const state = unchanged();
    const portal = await startPortal();
    line.target = (portal.address() as AddressInfo).port;
    const { status, json } = await machine.snaphost('update');
    await closePortal(portal);
    expect(json.error).toMatchObject({ code: 'UPSTREAM_FAILED' });
    expect(json.error.hint).toMatch(/login/);
    expect(status).toBe(5);
    expect(unchanged()).toEqual(state);
    line.target = portOf(fleet.gateway.url);
    expect((await machine.snaphost('update')).json).toMatchObject({ to: image.stored.digest });
  });

  it('comes to such a page in the middle of a blob, what was there stays good', async () => {
    const image = await publish();
    const portal = await startPortal();
    const until = line.received + BLOB_BYTES / 2;
    line.fault = { resetAfter: 120_000 };
    line.onReceived = () => {
      if (line.received > until) line.target = (portal.address() as AddressInfo).port;
    };
    const { json } = await machine.snaphost('update');
    line.onReceived = undefined;
    await closePortal(portal);
    expect(json.error).toMatchObject({ code: 'UPSTREAM_FAILED' });
    const there = partBytes();
    // How much depends on what the last reset left unread.
    expect(there).toBeGreaterThan(0);
    line.fault = {};
    line.target = portOf(fleet.gateway.url);
    line.ranges.length = 0;
    expect((await machine.snaphost('update')).json).toMatchObject({ to: image.stored.digest });
    expect(line.ranges).toEqual([there]);
  });

  it('leads to a gateway that starts again, an update goes on', async () => {
    const image = await publish();
    const half = line.received + BLOB_BYTES / 2;
    line.fault = { bytesPerSecond: 200_000 };
    let restarted: Promise<void> | undefined;
    line.onReceived = () => {
      if (line.received < half || restarted !== undefined) return;
      restarted = fleet.restart().then(() => {
        line.target = portOf(fleet.gateway.url);
      });
    };
    const { status, json } = await machine.snaphost('update');
    line.onReceived = undefined;
    expect(restarted).toBeDefined();
    await restarted;
    expect(json).toMatchObject({ to: image.stored.digest, method: 'full' });
    expect(status).toBe(0);
  });
});

describe('in a network namespace of its own, over a line that', () => {
  it.for([
    ['loses 1 % of all packets', ['netem', 'loss', '1%'], BLOB_BYTES],
    ['loses 30 % of all packets', ['netem', 'loss', '30%'], 60_000],
    ['takes 2 s there and back', ['netem', 'delay', '1000ms'], 60_000],
    ['has 64 kbit/s', ['tbf', 'rate', '64kbit', 'burst', '4kb', 'latency', '10s'], 60_000],
  ] as const)('%s, an update comes whole', async ([, queue, bytes], ctx) => {
    const missing = NetworkNamespace.missing(queue);
    ctx.skip(missing !== undefined, `${missing}; the proxy of the other tests stands in for it`);
    using namespace = new NetworkNamespace(queue);
    const near = await startFaultyLine(line.target, namespace.address);
    ctx.onTestFinished(() => near.stop());
    const image = await publish(bytes);
    await machine.configure(near.url, CONFIG);
    machine.runner = namespace.runner;
    ctx.onTestFinished(async () => {
      machine.runner = [];
      await machine.configure(line.url, CONFIG);
    });
    const { status, json } = await machine.snaphost('update');
    expect(json).toMatchObject({ to: image.stored.digest, method: 'full' });
    expect(status).toBe(0);
  });
});

/** What a hotel's network answers to everybody: go and log in, and then a page. */
async function startPortal(): Promise<Server> {
  const server = createServer((request, response) => {
    const page = '<html><body>Please log in</body></html>';
    if (request.url === '/login') response.setHeader('content-type', 'text/html').end(page);
    else response.writeHead(302, { location: `http://${request.headers.host}/login` }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

async function closePortal(portal: Server): Promise<void> {
  portal.closeAllConnections();
  await new Promise((resolve) => portal.close(resolve));
}
