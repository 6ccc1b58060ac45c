import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, it, vi } from 'vitest';
import { createTransport, type TransportOptions } from '../../../host-client/net/transport.ts';
import { collectBytes } from '../../support/tiny-image.ts';

type Finished = { onTestFinished(done: () => void): void };

/** A server that answers as told, and a transport to it. */
async function serve(ctx: Finished, answer: RequestListener, options: TransportOptions = {}) {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { transport, close } = createTransport(options);
  ctx.onTestFinished(() => {
    close();
    server.closeAllConnections();
    server.close();
  });
  const url = new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/v2/x`);
  return (more: { body?: Uint8Array; signal?: AbortSignal } = {}) =>
    transport({ method: more.body === undefined ? 'GET' : 'POST', url, headers: {}, ...more });
}

describe('the transport', () => {
  it('sends a body and streams the answer', async (ctx) => {
    const send = await serve(ctx, (request, response) => {
      response.writeHead(202, { 'x-one': 'a', 'set-cookie': ['a=1', 'b=2'] });
      request.pipe(response);
    });
    const { status, headers, body } = await send({ body: Buffer.from('hello') });
    expect(status).toBe(202);
    expect(headers).toMatchObject({ 'x-one': 'a', 'set-cookie': 'a=1, b=2' });
    expect((await collectBytes(body)).toString()).toBe('hello');
  });

  it('gives up on a server that says nothing', async (ctx) => {
    const send = await serve(ctx, () => undefined, { answerTimeoutMs: 50 });
    await expect(send()).rejects.toMatchObject({ code: 'UPSTREAM_TIMEOUT' });
  });

  it('gives up on a body that stalls', async (ctx) => {
    const send = await serve(ctx, (_, response) => void response.write('a'), {
      stallTimeoutMs: 50,
    });
    const { body } = await send();
    await expect(collectBytes(body)).rejects.toMatchObject({ code: 'UPSTREAM_TIMEOUT' });
  });

  it('gives up on a body that comes byte by byte', async (ctx) => {
    const send = await serve(
      ctx,
      (_, response) => {
        const timer = setInterval(() => response.write('a'), 20);
        response.on('close', () => clearInterval(timer));
      },
      { stallTimeoutMs: 300 },
    );
    const { body } = await send();
    await expect(collectBytes(body)).rejects.toMatchObject({ code: 'UPSTREAM_TIMEOUT' });
  });

  it('does not take a slow reader for a stall', async (ctx) => {
    const bytes = Buffer.alloc(4 * 1024 * 1024, 'x');
    const send = await serve(ctx, (_, response) => response.end(bytes), { stallTimeoutMs: 1000 });
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    ctx.onTestFinished(() => void vi.useRealTimers());
    const { body } = await send();
    let size = 0;
    for await (const chunk of body) {
      vi.advanceTimersByTime(3_600_000);
      size += chunk.length;
    }
    expect(size).toBe(bytes.length);
  });

  it('reports a reset as a broken line', async (ctx) => {
    const send = await serve(ctx, (_, response) => {
      response.writeHead(200, { 'content-length': '10' });
      response.write('half', () => response.socket?.destroy());
    });
    const { body } = await send();
    await expect(collectBytes(body)).rejects.toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
  });

  it('refuses more headers than it should get', async (ctx) => {
    const send = await serve(ctx, (_, response) => {
      response.writeHead(200, { 'x-long': 'y'.repeat(100_000) }).end();
    });
    await expect(send()).rejects.toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
  });

  it('stops when it is told to', async (ctx) => {
    const abort = new AbortController();
    const send = await serve(ctx, () => abort.abort());
    await expect(send({ signal: abort.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('names nothing but the place when nobody is there', async () => {
    const { transport, close } = createTransport();
    const url = new URL('http://user:secret@127.0.0.1:1/v2/x?token=secret');
    const failure = transport({ method: 'GET', url, headers: {} });
    await expect(failure).rejects.toMatchObject({
      code: 'UPSTREAM_UNREACHABLE',
      where: 'http://127.0.0.1:1/v2/x',
    });
    close();
  });
});
