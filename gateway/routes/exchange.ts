import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import type { Context } from 'hono';
import type { Client } from '../access/principal.ts';
import type { DirectBody } from '../upstream/direct-blob.ts';
import type { OutgoingHeaders } from '../upstream/headers.ts';
import { transportError } from '../upstream/transport.ts';
import { discard, type UpstreamAnswer } from '../upstream/upstream.ts';

/** What the gateway notes of a request besides what stands in it. */
export type RequestNotes = {
  /** Name of the route, for metrics. */
  route: string;
  /** The repository concerned. */
  repository?: string;
  /** Who asks, where the gateway knows. */
  client?: string;
};

/** What Hono gives to the gateway's handlers: Node's own request and answer, which stream best. */
export type GatewayEnv = { Bindings: HttpBindings; Variables: GatewayVariables };
type GatewayVariables = {
  notes: RequestNotes;
  /** Whoever asks, where the gateway itself lets in or not. */
  client?: Client;
};
export type GatewayContext = Context<GatewayEnv>;

/** Path and query of a request as the client wrote them. */
export function requestTarget(c: GatewayContext): {
  readonly path: string;
  readonly query: string;
} {
  const target = incomingOf(c).url ?? '';
  const mark = target.indexOf('?');
  return mark < 0
    ? { path: target, query: '' }
    : { path: target.slice(0, mark), query: target.slice(mark) };
}

export function incomingOf(c: GatewayContext): IncomingMessage {
  return c.env.incoming as IncomingMessage;
}

function outgoingOf(c: GatewayContext): ServerResponse {
  return c.env.outgoing as ServerResponse;
}

/** Aborted when the client goes away before its answer is complete. */
export function clientSignal(c: GatewayContext): AbortSignal {
  const abort = new AbortController();
  const outgoing = outgoingOf(c);
  outgoing.once('close', () => {
    if (!outgoing.writableFinished) abort.abort();
  });
  return abort.signal;
}

/**
 * The body of a request. Ending it early leaves the connection as it is: the client must still be
 * able to read why.
 */
export function requestBody(c: GatewayContext): AsyncIterable<Uint8Array> | undefined {
  const incoming = incomingOf(c);
  const { 'content-length': length, 'transfer-encoding': encoding } = incoming.headers;
  if (encoding === undefined && (length === undefined || length === '0')) return undefined;
  return incoming.iterator({ destroyOnReturn: false });
}

/**
 * Streams an answer to the client as fast as it takes it. When the registry breaks off, so does the
 * answer: the client must see that it is not whole. Throws as {@link transportError}.
 */
export async function sendAnswer(
  { c, url, signal }: { c: GatewayContext; url: URL; signal: AbortSignal },
  answer: UpstreamAnswer,
  headers: OutgoingHeaders,
): Promise<Response> {
  const outgoing = outgoingOf(c);
  if (outgoing.destroyed) {
    discard(answer);
    return RESPONSE_ALREADY_SENT;
  }
  // A failure here closes the client's connection too, and must not look as if the client left.
  let broken: unknown;
  answer.body.once('error', (error) => {
    if (!signal.aborted) broken = error;
  });
  try {
    outgoing.writeHead(answer.status, headers);
    if (answer.direct !== undefined) await sendDirectly(answer.direct, outgoing);
    else await pipeline(answer.body, outgoing);
  } catch (thrown) {
    discard(answer);
    throw broken ? transportError(broken, { url }) : transportError(thrown, { url, signal });
  }
  return RESPONSE_ALREADY_SENT;
}

/** Whether an answer can be copied to the client's socket: only when no other is before it. */
export function takesDirectBody(c: GatewayContext): boolean {
  return c.req.method === 'GET' && outgoingOf(c).socket !== null;
}

/** The head promises Content-Length bytes, so that the body may go past Node's own framing. */
async function sendDirectly(direct: DirectBody, outgoing: ServerResponse): Promise<void> {
  const { socket } = outgoing;
  if (socket === null) throw new Error('the client is gone');
  outgoing.flushHeaders();
  await direct.pipeTo(socket);
  outgoing.end();
}
