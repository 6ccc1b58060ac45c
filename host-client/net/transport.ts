import type http from 'node:http';
import type https from 'node:https';
import { Readable } from 'node:stream';
import { SnapgateError } from '../../shared/errors.ts';
import {
  displayUrl,
  flatHeaders,
  type HttpRequest,
  type Transport,
} from '../../shared/registry/transport.ts';

/** How the machine reaches its gateway. Times are milliseconds. */
export type TransportOptions = {
  /** Until the answer's headers have come, connecting included. */
  readonly answerTimeoutMs?: number;
  /** Longest wait for the next {@link LEAST_BYTES} of a body. */
  readonly stallTimeoutMs?: number;
  /** PEM of the certificate authorities to trust, instead of Node's own. */
  readonly ca?: string | undefined;
};

const MAX_HEADER_BYTES = 64 * 1024;
/** A body that brings less in the time of a stall is one: byte by byte it would never end. */
const LEAST_BYTES = 1024;
const HINT = 'Check the network and the gateway, then run the same command again.';

/**
 * A transport over Node's own HTTP client, which costs a machine with little memory the least. It
 * keeps connections; `close` ends them.
 */
export function createTransport(options: TransportOptions = {}): {
  transport: Transport;
  close(): void;
} {
  const { answerTimeoutMs = 30_000, stallTimeoutMs = 60_000, ca } = options;
  // HTTP_PROXY, HTTPS_PROXY and NO_PROXY hold as for other programs.
  const keep = { keepAlive: true, maxSockets: 4, proxyEnv: process.env };
  let plain: Client | undefined;
  let secure: Client | undefined;
  const clientFor = ({ protocol }: URL): Client => {
    if (protocol === 'https:') {
      secure ??= openHttps({ ...keep, ...(ca === undefined ? {} : { ca }) });
      return secure;
    }
    plain ??= openHttp(keep);
    return plain;
  };
  const transport: Transport = async (call) => {
    const response = await send(call, clientFor(call.url), answerTimeoutMs);
    return {
      status: response.statusCode ?? 0,
      headers: flatHeaders(response.headers),
      body: guarded(response, call, stallTimeoutMs),
    };
  };
  return {
    transport,
    close: () => {
      plain?.agent.destroy();
      secure?.agent.destroy();
    },
  };
}

/** One of Node's HTTP clients, with the connections that it keeps. */
type Client = { readonly request: typeof http.request; readonly agent: http.Agent };

/**
 * By name: importing the module takes all that it exports, and loads undici for that, which is 17 MB
 * of memory.
 */
function openHttp(options: http.AgentOptions): Client {
  const { Agent, request } = process.getBuiltinModule('node:http');
  return { request, agent: new Agent(options) };
}

/** Loaded when it is called for: TLS takes 6 MB. */
function openHttps(options: https.AgentOptions): Client {
  const { Agent, request } = process.getBuiltinModule('node:https');
  return { request, agent: new Agent(options) };
}

function send(
  call: HttpRequest,
  { request: start, agent }: Client,
  timeoutMs: number,
): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    const request = start(call.url, {
      method: call.method,
      headers: call.headers,
      agent,
      maxHeaderSize: MAX_HEADER_BYTES,
      ...(call.signal === undefined ? {} : { signal: call.signal }),
    });
    const timer = setTimeout(() => request.destroy(timeout(call.url)), timeoutMs);
    request.once('response', (response) => {
      clearTimeout(timer);
      resolve(response);
    });
    // It may fail again after the answer has come; whoever reads the body then learns it there.
    request.on('error', (cause) => {
      clearTimeout(timer);
      reject(transportError(cause, call));
    });
    sendBody(request, call.body);
  });
}

function sendBody(request: http.ClientRequest, body: HttpRequest['body']): void {
  if (body === undefined) request.end();
  else if (body instanceof Uint8Array) request.end(body);
  else {
    Readable.from(body)
      .on('error', (cause) => request.destroy(cause))
      .pipe(request);
  }
}

/** The time of a stall counts only while somebody waits: a slow disk or a rate limit is no stall. */
async function* guarded(
  response: http.IncomingMessage,
  call: HttpRequest,
  stallTimeoutMs: number,
): AsyncGenerator<Uint8Array> {
  const chunks = response[Symbol.asyncIterator]();
  let waited = 0;
  let came = 0;
  try {
    for (;;) {
      const start = performance.now();
      const left = Math.max(0, stallTimeoutMs - waited);
      const timer = setTimeout(() => response.destroy(timeout(call.url)), left);
      const next = await chunks.next().finally(() => clearTimeout(timer));
      if (next.done) return;
      const chunk = next.value as Buffer;
      came += chunk.length;
      waited = came >= LEAST_BYTES ? 0 : waited + performance.now() - start;
      if (came >= LEAST_BYTES) came = 0;
      yield chunk;
    }
  } catch (thrown) {
    throw transportError(thrown, call);
  } finally {
    response.destroy();
  }
}

function timeout(url: URL): SnapgateError {
  return new SnapgateError('UPSTREAM_TIMEOUT', 'no answer in time', {
    where: displayUrl(url),
    hint: HINT,
  });
}

function transportError(
  thrown: unknown,
  { url, signal }: Pick<HttpRequest, 'url' | 'signal'>,
): SnapgateError {
  if (thrown instanceof SnapgateError) return thrown;
  const where = displayUrl(url);
  if (signal?.aborted) return new SnapgateError('CANCELLED', 'cancelled', { where, cause: thrown });
  const error = thrown as NodeJS.ErrnoException;
  const message = `the connection failed: ${error.code ?? error.message}`;
  return new SnapgateError('UPSTREAM_UNREACHABLE', message, { where, hint: HINT, cause: thrown });
}
