import { mkdir, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadConfig } from '../../../host-client/config.ts';
import { Line } from '../../../host-client/net/gateway-source.ts';
import { sha256 } from '../../../shared/digest.ts';
import { temporaryFolder } from '../../support/temporary-folder.ts';
import { startUpstreamServer } from '../../support/upstream-server.ts';

const DIGEST = sha256('manifest');
type Finished = { onTestFinished(done: () => Promise<void>): void };

/** A gateway that knows the tag, or does something else. */
async function gateway(
  ctx: Finished,
  handle: (request: IncomingMessage, response: ServerResponse) => void = (_, response) =>
    response.writeHead(200, { 'docker-content-digest': DIGEST }).end(),
) {
  const server = await startUpstreamServer();
  server.handle = handle;
  ctx.onTestFinished(() => server.close());
  return server;
}

async function line(ctx: Finished, gateways: readonly string[], more: object = {}) {
  const root = await temporaryFolder(ctx);
  const notices: string[] = [];
  const config = await loadConfig({ root, gateways, repository: 'os/image', tag: 'stable' });
  const made = new Line({ ...config, ...more }, (message) => notices.push(message));
  ctx.onTestFinished(async () => made.close());
  return { line: made, notices, root };
}

describe('the line to the gateways', () => {
  it('takes the first gateway that answers', async (ctx) => {
    const second = await gateway(ctx);
    const { line: made, notices } = await line(ctx, ['http://127.0.0.1:1', second.url]);
    const source = await made.connect();
    expect(source.gateway.href).toBe(`${second.url}/`);
    expect(source.tagDigest).toBe(DIGEST);
    expect(notices).toEqual([expect.stringContaining('127.0.0.1:1')]);
  });

  it('reaches gateways by IPv6', async (ctx) => {
    const server = createServer((_, response) =>
      response.writeHead(200, { 'docker-content-digest': DIGEST }).end(),
    );
    const failure = await new Promise<Error | undefined>((resolve) => {
      server.once('error', resolve).listen(0, '::1', () => resolve(undefined));
    });
    ctx.skip(failure !== undefined, `no IPv6 here: ${failure?.message}`);
    ctx.onTestFinished(async () => void server.close());
    const { port } = server.address() as AddressInfo;
    const { line: made } = await line(ctx, [`http://[::1]:${port}`]);
    expect(await made.connect()).toMatchObject({ tagDigest: DIGEST });
  });

  it('asks no other gateway when one says no', async (ctx) => {
    const first = await gateway(ctx, (_, response) => response.writeHead(404).end());
    const second = await gateway(ctx);
    const { line: made } = await line(ctx, [first.url, second.url]);
    await expect(made.connect()).rejects.toMatchObject({ code: 'MANIFEST_UNKNOWN' });
    expect(second.seen).toEqual([]);
  });

  it('believes no digest that is none', async (ctx) => {
    const odd = await gateway(ctx, (_, response) =>
      response.writeHead(200, { 'docker-content-digest': 'sha256:short' }).end(),
    );
    const { line: made } = await line(ctx, [odd.url]);
    expect((await made.connect()).tagDigest).toBeUndefined();
  });

  it('shows its credentials to the gateway that asks for them, and to no other', async (ctx) => {
    const [asking, other] = [
      await gateway(ctx, ({ headers }, response) => {
        const isKnown = headers.authorization === `Basic ${btoa('me:secret')}`;
        const status = isKnown ? 503 : 401;
        response.writeHead(status, { 'www-authenticate': 'Basic realm="test"' }).end();
      }),
      await gateway(ctx),
    ];
    const { line: made, root } = await line(ctx, [asking.url, other.url]);
    await mkdir(join(root, 'etc/snaphost'), { recursive: true });
    const auths = { [new URL(asking.url).host]: { username: 'me', password: 'secret' } };
    await writeFile(join(root, 'etc/snaphost/auth.json'), JSON.stringify({ auths }));
    expect((await made.connect()).gateway.href).toBe(`${other.url}/`);
    expect(asking.seen.some(({ headers }) => headers.authorization !== undefined)).toBe(true);
    expect(other.seen.map(({ headers }) => headers.authorization)).toEqual([undefined]);
  });

  it('needs the files that its configuration names', async (ctx) => {
    const { line: made } = await line(ctx, ['http://127.0.0.1:1'], { authFile: '/no/such/auth' });
    const refusal = { code: 'CONFIG_INVALID', where: '/no/such/auth' };
    await expect(made.connect()).rejects.toMatchObject(refusal);
    const { line: other } = await line(ctx, ['https://127.0.0.1:1'], { caFile: '/no/such/ca' });
    await expect(other.connect()).rejects.toMatchObject({ ...refusal, where: '/no/such/ca' });
  });

  it('counts what comes', async (ctx) => {
    const server = await gateway(ctx, ({ method }, response) => {
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(method === 'HEAD' ? undefined : '{"schemaVersion":2,"manifests":[]}');
    });
    const { line: made } = await line(ctx, [server.url]);
    const { repository } = await made.connect();
    expect(made.received).toBe(0);
    await repository.getManifest('stable');
    expect(made.received).toBe(34);
  });
});
