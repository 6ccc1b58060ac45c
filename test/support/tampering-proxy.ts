import {
  createServer,
  type IncomingMessage,
  type ServerResponse,
  request as sendRequest,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { pipeline } from 'node:stream/promises';

/** One request on its way, for a test to change. */
export type Passing = {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  /** Passes it on; `change` gets the whole answer and gives the one to send, if it sent none itself. */
  pass(change?: (answer: Answer) => Answer | undefined): Promise<void>;
};

/** A whole answer. */
export type Answer = {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Buffer;
};

export type TamperingProxy = {
  readonly url: string;
  /** `METHOD PATH` of every request so far. */
  readonly seen: string[];
  /** Called for every request; undefined passes everything on as it is. */
  handle: ((passing: Passing) => unknown) | undefined;
  stop(): Promise<void>;
};

/** A proxy on loopback between a machine and its gateway that does what a test tells it to. */
export async function startTamperingProxy(upstream: string): Promise<TamperingProxy> {
  const server = createServer((request, response) => {
    proxy.seen.push(`${request.method} ${request.url}`);
    // What breaks on the other side breaks on this one.
    const pass = (change?: (answer: Answer) => Answer | undefined) =>
      forward(upstream, request, response, change).catch(() => void response.destroy());
    if (proxy.handle === undefined) void pass();
    else void proxy.handle({ request, response, pass });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxy: TamperingProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen: [],
    handle: undefined,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}

async function forward(
  upstream: string,
  request: IncomingMessage,
  response: ServerResponse,
  change: ((answer: Answer) => Answer | undefined) | undefined,
): Promise<void> {
  const from = await ask(upstream, request);
  const received = { status: from.statusCode ?? 0, headers: from.headers };
  if (change === undefined) {
    response.writeHead(received.status, received.headers);
    response.flushHeaders();
    await pipeline(from, response);
    return;
  }
  const changed = change({ ...received, body: await collect(from) });
  if (changed === undefined) return;
  for (const [name, value] of Object.entries(changed.headers)) {
    if (value !== undefined && name !== 'transfer-encoding') response.setHeader(name, value);
  }
  if (request.method !== 'HEAD') response.setHeader('content-length', changed.body.length);
  response.writeHead(changed.status);
  response.end(changed.body);
}

async function ask(upstream: string, request: IncomingMessage): Promise<IncomingMessage> {
  const body = await collect(request);
  const { method = 'GET', url = '/', headers } = request;
  const target = new URL(url, upstream);
  return new Promise((resolve, reject) => {
    const options = { method, headers: { ...headers, host: target.host } };
    sendRequest(target, options, resolve).on('error', reject).end(body);
  });
}

async function collect(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
