import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hashSync } from 'bcryptjs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseConfig } from '../../../gateway/cli/config.ts';
import { type RunningGateway, startGateway } from '../../../gateway/cli/gateway.ts';
import { sha256 } from '../../../shared/digest.ts';
import { basicHeader } from '../../../shared/registry/authenticator.ts';
import { startUpstreamServer, type UpstreamServer } from '../../support/upstream-server.ts';

const OWN = basicHeader('gateway', 'own word');
const CLIENT = basicHeader('alice', 'pw');
const BLOB = `/v2/os/image/blobs/${sha256('blob')}`;
let dir: string;
let upstream: UpstreamServer;
let gateway: RunningGateway;

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-login-'));
  upstream = await startUpstreamServer();
  await writeFile(join(dir, 'htpasswd'), `alice:${hashSync('pw', 4)}\n`);
  await writeFile(join(dir, 'password'), 'own word');
  const credentials = { username: 'gateway', passwordFile: 'password' };
  const all = ['user:alice'];
  const rules = [{ repository: '*', pull: all, push: all, delete: all }];
  const config = {
    ...{ listen: { port: 0 }, data: 'data', stopTimeoutSeconds: 0 },
    upstream: { url: upstream.url, credentials },
    access: { htpasswd: 'htpasswd', rules },
  };
  gateway = await startGateway(parseConfig(JSON.stringify(config), join(dir, 'c.yaml')), () => {});
});
afterEach(async () => {
  await gateway.close();
  await upstream.close();
  await rm(dir, { recursive: true, force: true });
});

const ask = (path: string, init: RequestInit = {}) =>
  fetch(gateway.url + path, { redirect: 'manual', headers: { authorization: CLIENT }, ...init });
const sent = () => upstream.seen.map(({ headers }) => headers.authorization);
/** A registry that lets the gateway in and nobody else, in its own way of asking. */
function guard(challenge = 'Basic realm="registry"', right = OWN) {
  upstream.handle = (request, response) => {
    if (request.url?.startsWith('/token')) {
      const isOwn = request.headers.authorization === OWN;
      return void response
        .writeHead(isOwn ? 200 : 401)
        .end(JSON.stringify({ token: 'registry-token' }));
    }
    const isIn = request.headers.authorization === right;
    const headers = isIn ? {} : { 'www-authenticate': challenge };
    request.resume().on('end', () => {
      response.writeHead(isIn ? 200 : 401, { 'content-length': 2, ...headers }).end('{}');
    });
  };
}

describe('a request that the gateway let in itself', () => {
  it("carries the gateway's credentials and never the client's", async () => {
    guard();
    for (const path of [BLOB, '/v2/os/image/manifests/v1', '/v2/os/image/tags/list']) {
      expect((await ask(path)).status, path).toBe(200);
    }
    expect(sent()).not.toContain(CLIENT);
    expect(sent().slice(1)).toContain(OWN);
  });

  it('gets a token of the registry where the registry asks for one', async () => {
    guard(`Bearer realm="${upstream.url}/token",service="registry"`, 'Bearer registry-token');
    expect((await ask(BLOB)).status).toBe(200);
    expect((await ask(BLOB, { method: 'DELETE' })).status).toBe(200);
    const scopes = upstream.seen
      .filter(({ url }) => url?.startsWith('/token'))
      .map(({ url }) => new URL(url ?? '', upstream.url).searchParams.get('scope'));
    expect(scopes).toEqual([
      ...['repository:os/image:pull', 'repository:os/image:pull,push,delete'],
    ]);
  });

  it('finds out how to log in before it sends a body, which it can send once', async () => {
    guard();
    const init = { method: 'PUT', body: 'manifest' };
    expect((await ask('/v2/os/image/manifests/v1', init)).status).toBe(200);
    expect(upstream.seen.map(({ method, url }) => `${method} ${url}`)).toEqual([
      ...['GET /v2/', 'PUT /v2/os/image/manifests/v1'],
    ]);
  });

  it("does not show the client that the registry refuses the gateway's credentials", async () => {
    guard('Basic realm="registry"', 'Basic other');
    for (const init of [{}, { method: 'PUT', body: 'manifest' }]) {
      const answer = await ask('/v2/os/image/manifests/v1', init);
      const { errors } = (await answer.json()) as { errors: { code: string }[] };
      expect([answer.status, errors[0]?.code]).toEqual([502, 'UPSTREAM_FAILED']);
      expect(answer.headers.get('www-authenticate')).toBeNull();
    }
    expect(sent()).not.toContain(CLIENT);
  });

  it('takes no credentials to another origin', async () => {
    const elsewhere = await startUpstreamServer();
    upstream.handle = (_request, response) =>
      response.writeHead(307, { location: `${elsewhere.url}/blob`, 'content-length': 0 }).end();
    elsewhere.handle = (_request, response) =>
      response.writeHead(200, { 'content-length': 0 }).end();
    await ask(BLOB);
    expect(elsewhere.seen.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    await elsewhere.close();
  });

  it('that was not let in does not reach the registry', async () => {
    for (const authorization of ['', 'Basic !', basicHeader('alice', 'no'), OWN]) {
      const headers = authorization === '' ? {} : { authorization };
      for (const path of ['/v2/', BLOB, '/v2/_catalog', '/v2/os/image/tags/list']) {
        expect((await ask(path, { headers })).status).toBe(401);
      }
    }
    expect(upstream.seen).toEqual([]);
  });
});
