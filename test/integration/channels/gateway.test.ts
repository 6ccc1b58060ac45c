import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Updater } from 'tuf-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { gatewayMetadata } from '../../../host-client/channel/metadata-source.ts';
import { createTransport } from '../../../host-client/net/transport.ts';
import { digestHex } from '../../../shared/digest.ts';
import { type CountingProxy, startCountingProxy } from '../../support/counting-proxy.ts';
import { startGatewayProcess, type TestGateway } from '../../support/gateway.ts';
import { pythonTuf, pythonTufSkipReason } from '../../support/python-tuf.ts';
import { hasRegistry, startRegistry } from '../../support/registry.ts';
import { snapgate } from '../../support/run-program.ts';
import { storedManifest } from '../../support/tiny-image.ts';
import { keyFiles, TestTuf, TufClient } from '../../support/tuf.ts';

const PATH = 'os/image/stable';
const image = storedManifest({ schemaVersion: 2, annotations: { text: 'one' } });
let dir: string;
let tuf: TestTuf;
let gateway: TestGateway;
let line: CountingProxy;
let connections: ReturnType<typeof createTransport>;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-channels-'));
  const [snapshot, timestamp] = [await keyFiles(dir, 'snapshot'), await keyFiles(dir, 'timestamp')];
  const online = { snapshot: snapshot.signer, timestamp: timestamp.signer };
  tuf = await TestTuf.create(join(dir, 'tuf'), new Date(), online);
  await tuf.stateChannel(PATH, image, { version: '1' });
  await tuf.publish();
  // What the online keys signed is gone: the gateway makes it anew.
  await rm(join(dir, 'tuf/metadata/timestamp.json'));
  gateway = await startGatewayProcess('http://127.0.0.1:1', {
    tuf: { folder: join(dir, 'tuf'), snapshot: snapshot.place, timestamp: timestamp.place },
  });
  line = await startCountingProxy(gateway.url);
  connections = createTransport();
});
afterAll(async () => {
  connections.close();
  await line.close();
  await gateway.stop();
  await rm(dir, { recursive: true, force: true });
});

describe('a gateway with channels', () => {
  it('signs what is due, and serves what a machine asks for', async () => {
    expect(gateway.log).toContainEqual(
      expect.objectContaining({ message: 'channel metadata signed', timestamp: 1 }),
    );
    const client = await TufClient.of(tuf, join(dir, 'client'));
    client.source = gatewayMetadata(connections.transport, new URL(line.url));
    expect((await client.find(PATH)).statement).toMatchObject({ digest: image.digest });
  });

  it('costs less than 1 KiB on the line when nothing is new', async () => {
    const client = await TufClient.of(tuf, join(dir, 'client'));
    client.source = gatewayMetadata(connections.transport, new URL(line.url));
    await client.find(PATH);
    line.take();
    await client.find(PATH);
    const again = line.take();
    expect(again).toBeGreaterThan(200);
    expect(again).toBeLessThan(1024);
  });

  it('answers as the file, by its tag, or that there is none', async () => {
    const url = `${gateway.url}/tuf/metadata/timestamp.json`;
    const first = await fetch(url);
    const tag = first.headers.get('etag') ?? '';
    expect(await first.text()).toBe(
      await readFile(join(dir, 'tuf/metadata/timestamp.json'), 'utf8'),
    );
    expect((await fetch(url, { headers: { 'if-none-match': tag } })).status).toBe(304);
    expect((await fetch(url, { headers: { 'if-none-match': '"other"' } })).status).toBe(200);
    const hash = digestHex(image.digest);
    const target = await fetch(`${gateway.url}/tuf/targets/os/image/${hash}.stable`);
    expect(Buffer.from(await target.arrayBuffer())).toEqual(Buffer.from(image.bytes));
    await writeFile(join(dir, 'tuf/metadata/private.json'), '{}');
    for (const path of [
      ...['metadata/9.root.json', 'metadata/private.json', 'staged/root.json', 'targets/x'],
      ...['metadata/..%2f..%2fsnapshot.key', `targets/os%2f..%2f..%2f${hash}.stable`, ''],
    ]) {
      expect([path, (await fetch(`${gateway.url}/tuf/${path}`)).status]).toEqual([path, 404]);
    }
    expect((await fetch(url, { method: 'PUT', body: '{}' })).status).toBe(404);
  });

  it('takes up what is published while it runs', async (ctx) => {
    const { TufKeeper } = await import('../../../gateway/tuf/keeper.ts');
    const { snapshot, timestamp } = tuf.keys;
    const said: unknown[] = [];
    const log = (_level: string, message: string, fields?: object) => {
      said.push({ message, ...fields });
    };
    const keeper = new TufKeeper({
      ...{ folder: tuf.folder, log },
      signing: { snapshot, timestamp, snapshotSeconds: 600, timestampSeconds: 600 },
      everyMs: 5,
    });
    ctx.onTestFinished(() => keeper.close());
    await keeper.start();
    const { publishStaged } = await import('../../../gateway/tuf/publish.ts');
    const { signStaged } = await import('../../../gateway/tuf/sign.ts');
    const second = storedManifest({ schemaVersion: 2, annotations: { text: 'two' } });
    await tuf.stateChannel(PATH, second, { version: '2' }, 'targets', 20);
    await signStaged(tuf.folder, await tuf.state(), tuf.keys.targets[0]);
    await publishStaged(tuf.folder, await tuf.state());
    const client = await TufClient.of(tuf, join(dir, 'client-2'));
    await expect.poll(async () => (await client.find(PATH)).statement.version).toBe('2');
    await expect
      .poll(() => said)
      .toContainEqual(
        expect.objectContaining({ message: 'channel metadata ends soon', role: 'targets' }),
      );
  });
});

describe('a gateway that follows a registry', () => {
  it('serves what was published there', async (ctx) => {
    ctx.skip(!hasRegistry(), 'docker-registry is not installed');
    const registry = await startRegistry();
    ctx.onTestFinished(() => registry.stop());
    const place = `docker://${new URL(registry.url).host}/os/channels:snapgate-tuf`;
    const { status, stdout } = await snapgate([
      ...['tuf', 'publish', tuf.folder.dir, '--to', place, '--json'],
    ]);
    expect([status, stdout]).toEqual([0, expect.stringContaining('wrote')]);
    const key = (name: string) => ({
      key: join(dir, `${name}.key`),
      passwordFile: join(dir, `${name}.word`),
    });
    const follower = await startGatewayProcess(registry.url, {
      tuf: {
        ...{ folder: join(dir, 'followed'), from: 'os/channels:snapgate-tuf' },
        ...{ snapshot: key('snapshot'), timestamp: key('timestamp') },
      },
    });
    ctx.onTestFinished(async () => {
      await follower.stop();
    });
    const client = await TufClient.of(tuf, join(dir, 'client-3'));
    client.source = gatewayMetadata(connections.transport, new URL(follower.url));
    const find = () => client.find(PATH).catch(() => undefined);
    await expect.poll(find, { timeout: 120_000 }).toMatchObject({ statement: { version: '2' } });
  });
});

describe('other clients', () => {
  it('tuf-js as it is downloads the target', async () => {
    const folder = join(dir, 'tuf-js');
    await mkdir(folder);
    await writeFile(join(folder, 'root.json'), (await tuf.folder.metadata('1.root.json')) ?? '');
    const updater = new Updater({
      ...{ metadataDir: folder, metadataBaseUrl: `${gateway.url}/tuf/metadata` },
      ...{ targetDir: folder, targetBaseUrl: `${gateway.url}/tuf/targets` },
    });
    const target = await updater.getTargetInfo(PATH);
    if (target === undefined) throw new Error('there is no such target');
    const file = await updater.downloadTarget(target);
    expect(digestHex(image.digest).length).toBe(64);
    expect(target.custom).toMatchObject({ version: '2' });
    expect((await readFile(file)).length).toBe(target.length);
  });

  it('python-tuf downloads the target', async (ctx) => {
    const reason = await pythonTufSkipReason();
    ctx.skip(reason !== undefined, reason);
    const found = await pythonTuf({
      ...{ folder: join(dir, 'python-tuf'), baseUrl: `${gateway.url}/tuf` },
      ...{ root: join(dir, 'tuf/metadata/1.root.json'), path: PATH },
    });
    expect(found.custom).toMatchObject({ version: '2' });
    expect(found.bytes.toString()).toContain('two');
  });
});
