import { mkdtemp, rm } from 'node:fs/promises';
import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseConfig } from '../../../gateway/cli/config.ts';
import { type RunningGateway, startGateway } from '../../../gateway/cli/gateway.ts';
import { sha256 } from '../../../shared/digest.ts';
import type { LogFields } from '../../../shared/log.ts';
import { startUpstreamServer, type UpstreamServer } from '../../support/upstream-server.ts';

let dir: string;
let upstream: UpstreamServer;
let elsewhere: UpstreamServer;
let gateway: RunningGateway;
let lines: string[];

/** Starts a gateway whose patience is long, except where a test tries it. */
function start(patience: Readonly<Record<string, number>>): Promise<RunningGateway> {
  const config = {
    ...{ listen: { port: 0 }, data: dir, stopTimeoutSeconds: 0, log: { level: 'debug' } },
    upstream: { url: upstream.url, ...patience },
  };
  const log = (level: string, message: string, fields: LogFields = {}) =>
    void lines.push(JSON.stringify({ level, message, ...fields }));
  return startGateway(parseConfig(JSON.stringify(config), join(dir, 'c.yaml')), log);
}

async function restart(patience: Readonly<Record<string, number>>): Promise<void> {
  await gateway.close();
  gateway = await start(patience);
}

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'snapgate-hostile-'));
  upstream = await startUpstreamServer();
  elsewhere = await startUpstreamServer();
  lines = [];
  gateway = await start({});
});

afterEach(async () => {
  await gateway.close();
  await Promise.all([upstream.close(), elsewhere.close()]);
  await rm(dir, { recursive: true, force: true });
});

const BLOB = `/v2/os/image/blobs/${sha256('blob')}`;
const MANIFEST = '/v2/os/image/manifests/v1';
/** Blobs are copied from socket to socket, all else goes through streams: both must hold. */
const PATHS = [
  ['a blob', BLOB],
  ['a manifest', MANIFEST],
] as const;
const ask = (path: string, init: RequestInit = {}) =>
  fetch(gateway.url + path, { redirect: 'manual', ...init });
const codeOf = async (answer: Response) => {
  const body = (await answer.json()) as { errors: { code: string }[] };
  return body.errors[0]?.code;
};
/** Waits for something that is under way; the test's own limit ends a wait in vain. */
const until = async (is: () => boolean | Promise<boolean>) => {
  while (!(await is())) await new Promise((resolve) => setTimeout(resolve, 10));
};

describe.each(PATHS)('a registry asked for %s', (_what, path) => {
  it.each([401, 403, 404, 429, 500, 503])('that answers %d is quoted', async (status) => {
    const body = JSON.stringify({ errors: [{ code: 'SAID', message: `by the registry` }] });
    upstream.handle = (_request, response) => {
      const headers = { 'content-type': 'application/json', 'retry-after': '7' };
      response.writeHead(status, { ...headers, 'content-length': body.length }).end(body);
    };
    const answer = await ask(path);
    expect([answer.status, await answer.text()]).toEqual([status, body]);
    expect(answer.headers.get('retry-after')).toBe('7');
    expect(upstream.seen).toHaveLength(1);
  });

  it('that is not there', async () => {
    await upstream.close();
    const answer = await ask(path);
    expect([answer.status, await codeOf(answer)]).toEqual([502, 'UPSTREAM_UNREACHABLE']);
  });

  it('that never answers', async () => {
    await restart({ answerTimeoutSeconds: 1 });
    upstream.handle = () => {};
    const answer = await ask(path);
    expect([answer.status, await codeOf(answer)]).toEqual([504, 'UPSTREAM_TIMEOUT']);
  });

  it('that resets', async () => {
    upstream.handle = (request) => request.socket.resetAndDestroy();
    const answer = await ask(path);
    expect([answer.status, await codeOf(answer)]).toEqual([502, 'UPSTREAM_UNREACHABLE']);
  });

  it('that breaks off', async () => {
    upstream.handle = (request, response) => {
      response.writeHead(200, { 'content-length': 1000 });
      response.write('x'.repeat(500), () => request.socket.destroy());
    };
    const answer = await ask(path);
    expect(answer.headers.get('content-length')).toBe('1000');
    await expect(answer.text()).rejects.toThrow();
    await until(() => lines.some((line) => line.includes('"status":499')));
    expect(lines.join()).toContain('UPSTREAM_UNREACHABLE');
  });

  it('that stalls', async () => {
    await restart({ stallTimeoutSeconds: 1 });
    upstream.handle = (_request, response) => {
      response.writeHead(200, { 'content-length': 1000 });
      response.write('x'.repeat(500));
    };
    await expect(ask(path).then((answer) => answer.text())).rejects.toThrow();
    await until(() => lines.some((line) => line.includes('UPSTREAM_TIMEOUT')));
  });

  it('that sends more than it announced', async () => {
    upstream.handle = (request) => {
      request.socket.write(
        'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n',
      );
    };
    const agent = await pipelined(path, 2);
    const answers = agent.split('HTTP/1.1 200 OK').slice(1);
    expect(answers).toHaveLength(2);
    for (const one of answers) expect(one.endsWith('\r\n\r\nhello')).toBe(true);
  });

  it('that writes no HTTP', async () => {
    upstream.handle = (request) => request.socket.end('SSH-2.0-OpenSSH_9.2\r\n');
    const answer = await ask(path);
    expect([answer.status, await codeOf(answer)]).toEqual([502, 'UPSTREAM_UNREACHABLE']);
  });

  it('that sends headers without end', async () => {
    upstream.handle = (request) => {
      request.socket.on('error', () => {}).write('HTTP/1.1 200 OK\r\n');
      const more = () => {
        if (!request.socket.destroyed) request.socket.write(`x: ${'y'.repeat(8000)}\r\n`, more);
      };
      more();
    };
    const answer = await ask(path);
    expect(answer.status).toBe(502);
  });

  it('that sends pieces without a length', async () => {
    upstream.handle = (_request, response) => {
      response.writeHead(200);
      response.write('one ');
      response.end('two');
    };
    expect(await (await ask(path)).text()).toBe('one two');
  });

  it('that redirects elsewhere gives no credentials away', async () => {
    upstream.handle = (_request, response) =>
      response.writeHead(307, { location: `${elsewhere.url}/bucket/x?signature=s` }).end();
    elsewhere.handle = (_request, response) => response.end('content');
    const headers = { authorization: 'Bearer secret', cookie: 'a=b', range: 'bytes=0-' };
    const answer = await ask(path, { headers });
    expect([answer.status, await answer.text()]).toEqual([200, 'content']);
    expect(upstream.seen[0]?.headers.authorization).toBe('Bearer secret');
    const [there] = elsewhere.seen;
    expect(there?.url).toBe('/bucket/x?signature=s');
    expect(there?.headers).toMatchObject({ range: 'bytes=0-' });
    expect(there?.headers).not.toHaveProperty('authorization');
    expect(there?.headers).not.toHaveProperty('cookie');
    expect(lines.join()).not.toContain('secret');
  });

  it('that redirects without end', async () => {
    upstream.handle = (request, response) =>
      response.writeHead(302, { location: `${request.url}` }).end();
    const answer = await ask(path);
    expect([answer.status, await codeOf(answer)]).toEqual([502, 'UPSTREAM_FAILED']);
    expect(upstream.seen.length).toBeLessThan(20);
  });

  it('is no longer asked when the client goes away', async () => {
    const gone = Promise.withResolvers<void>();
    upstream.handle = (_request, response) => {
      response.once('close', () => gone.resolve());
      response.writeHead(200, { 'content-length': 1e9 });
      response.write('x');
    };
    const abort = new AbortController();
    const answer = await ask(path, { signal: abort.signal });
    await answer.body?.getReader().read();
    abort.abort();
    await gone.promise;
  });

  it('waits for a client that reads slowly', async () => {
    let sent = 0;
    upstream.handle = (_request, response) => {
      response.writeHead(200, { 'content-length': 1e9 });
      const piece = Buffer.alloc(1e6);
      const more = () => {
        sent += piece.length;
        if (sent < 1e9) response.write(piece, more);
      };
      more();
    };
    const client = httpRequest(gateway.url + path).end();
    const answer = await new Promise<import('node:http').IncomingMessage>((resolve) => {
      client.once('response', resolve);
    });
    answer.pause();
    let last = -1;
    await until(async () => {
      const isStill = sent === last;
      last = sent;
      await new Promise((resolve) => setTimeout(resolve, 200));
      return isStill;
    });
    // Buffers of four sockets stand between the two; a gateway that reads ahead takes all of it.
    expect(sent).toBeLessThan(100e6);
    client.destroy();
  });
});

/** What comes back for several requests that are written at once on one connection. */
async function pipelined(path: string, count: number): Promise<string> {
  const { hostname, port } = new URL(gateway.url);
  const socket = connect(Number(port), hostname);
  const last = 'Connection: close\r\n';
  for (let i = 1; i <= count; i += 1) {
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\n${i === count ? last : ''}\r\n`);
  }
  return text(socket);
}

describe('uploads', () => {
  const UPLOADS = '/v2/os/image/blobs/uploads/';

  it('end with the reason when the registry refuses them half way', async () => {
    upstream.handle = (_request, response) =>
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end('{}');
    const body = ReadableStream.from(pieces(64));
    const init = { method: 'PATCH', body, duplex: 'half' } as RequestInit;
    const answer = await ask(`${UPLOADS}1`, init);
    expect(answer.status).toBe(401);
    expect(answer.headers.get('www-authenticate')).toBe('Basic realm="x"');
  });

  it('are cancelled when the client goes away', async () => {
    const gone = Promise.withResolvers<void>();
    upstream.handle = (request) => {
      request.on('error', () => gone.resolve());
      request.resume();
    };
    const { hostname, port } = new URL(gateway.url);
    const socket = connect(Number(port), hostname);
    socket.write(`PATCH ${UPLOADS}1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf`);
    await until(() => upstream.seen.length > 0);
    socket.destroy();
    await gone.promise;
  });

  it('go on at addresses elsewhere, without credentials, and only there', async () => {
    upstream.handle = (_request, response) =>
      response.writeHead(202, { location: `${elsewhere.url}/store/u1?state=a` }).end();
    const headers = { authorization: 'Basic secret' };
    const started = await ask(UPLOADS, { method: 'POST', headers });
    const location = started.headers.get('location') ?? '';
    expect(location.startsWith(UPLOADS)).toBe(true);
    elsewhere.handle = (request, response) => {
      request.resume().on('end', () => response.writeHead(201).end());
    };
    const done = await ask(`${location}&digest=d`, { method: 'PUT', headers, body: 'content' });
    expect(done.status).toBe(201);
    expect(elsewhere.seen[0]).toMatchObject({ method: 'PUT', url: '/store/u1?state=a&digest=d' });
    expect(elsewhere.seen[0]?.headers).not.toHaveProperty('authorization');
    const forged = location.replace(/~snapgate\.[^.]*/, (whole) => `${whole}x`);
    for (const path of [forged, location.replace('os/image', 'os/other')]) {
      const refused = await ask(path, { method: 'PUT', headers, body: 'content' });
      expect([refused.status, await codeOf(refused)]).toEqual([404, 'BLOB_UPLOAD_UNKNOWN']);
    }
    expect(elsewhere.seen).toHaveLength(1);
  });
});

function* pieces(count: number): Generator<Buffer> {
  for (let i = 0; i < count; i += 1) yield Buffer.alloc(65536);
}

describe('the token service on the registry itself', () => {
  it('is reached through the gateway', async () => {
    const realm = `${upstream.url}/service/token`;
    upstream.handle = (request, response) => {
      if (request.url?.startsWith('/service/token')) response.end('{"token":"t"}');
      else {
        const challenge = `Bearer realm="${realm}",service="s"`;
        response.writeHead(401, { 'www-authenticate': challenge }).end();
      }
    };
    for (const path of ['/v2/', BLOB]) {
      const challenge = (await ask(path)).headers.get('www-authenticate') ?? '';
      const there = /realm="([^"]*)"/.exec(challenge)?.[1] ?? '';
      expect(there.startsWith(`${gateway.url}/`)).toBe(true);
      const headers = { authorization: 'Basic bWU6c2VjcmV0' };
      const token = await fetch(`${there}?service=s&scope=repository:os/image:pull`, { headers });
      expect(await token.json()).toEqual({ token: 't' });
      expect(upstream.seen.at(-1)).toMatchObject({
        url: '/service/token?service=s&scope=repository:os/image:pull',
        headers,
      });
      expect((await fetch(`${there}x`)).status).toBe(403);
    }
  });

  it('elsewhere is left to the client', async () => {
    const challenge = 'Bearer realm="https://auth.example/token",service="s"';
    upstream.handle = (_request, response) =>
      response.writeHead(401, { 'www-authenticate': challenge }).end();
    expect((await ask('/v2/')).headers.get('www-authenticate')).toBe(challenge);
  });
});
