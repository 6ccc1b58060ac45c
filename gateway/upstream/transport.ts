import { Agent, errors, request } from 'undici';
import { SnapgateError } from '../../shared/errors.ts';
import {
  displayUrl,
  flatHeaders,
  type HttpRequest,
  type Transport,
} from '../../shared/registry/transport.ts';

/** Timeouts of requests towards a registry, in milliseconds. */
export type TransportOptions = {
  readonly connectTimeoutMs?: number;
  /** Until the answer's headers have come. */
  readonly headersTimeoutMs?: number;
  /** Longest pause between two pieces of a body. */
  readonly stallTimeoutMs?: number;
  /** False accepts any TLS certificate. */
  readonly verifyTls?: boolean;
  /** Certificates that are trusted, as PEM, instead of the system's. */
  readonly ca?: readonly string[];
};

/** An undici transport that keeps connections; `close` ends them. */
export function createTransport(options: TransportOptions = {}): {
  transport: Transport;
  agent: Agent;
  close(): Promise<void>;
} {
  const agent = new Agent({
    connect: {
      timeout: options.connectTimeoutMs ?? 10_000,
      rejectUnauthorized: options.verifyTls ?? true,
      ...(options.ca === undefined ? {} : { ca: [...options.ca] }),
    },
    headersTimeout: options.headersTimeoutMs ?? 30_000,
    bodyTimeout: options.stallTimeoutMs ?? 60_000,
    maxHeaderSize: 64 * 1024,
  });
  const transport: Transport = async (call) => {
    try {
      const response = await request(call.url, {
        method: call.method as 'GET',
        headers: call.headers,
        body: (call.body ?? null) as Uint8Array | null,
        signal: call.signal ?? null,
        dispatcher: agent,
      });
      return {
        status: response.statusCode,
        headers: flatHeaders(response.headers),
        body: guarded(response.body, call),
      };
    } catch (thrown) {
      throw transportError(thrown, call);
    }
  };
  return { transport, agent, close: () => agent.destroy() };
}

async function* guarded(
  body: AsyncIterable<Uint8Array>,
  call: HttpRequest,
): AsyncGenerator<Uint8Array> {
  try {
    yield* body;
  } catch (thrown) {
    throw transportError(thrown, call);
  }
}

/** Sorts what undici throws into the codes of {@link Transport}. */
export function transportError(
  thrown: unknown,
  call: Pick<HttpRequest, 'url' | 'signal'>,
): SnapgateError {
  if (thrown instanceof SnapgateError) return thrown;
  const where = displayUrl(call.url);
  if (call.signal?.aborted)
    return new SnapgateError('CANCELLED', 'cancelled', { where, cause: thrown });
  const timedOut =
    thrown instanceof errors.ConnectTimeoutError ||
    thrown instanceof errors.HeadersTimeoutError ||
    thrown instanceof errors.BodyTimeoutError;
  if (timedOut) {
    return new SnapgateError('UPSTREAM_TIMEOUT', 'no answer in time', {
      where,
      hint: 'Check the network and the registry, then try again.',
      cause: thrown,
    });
  }
  const reason = (thrown as NodeJS.ErrnoException).code ?? (thrown as Error).message;
  return new SnapgateError('UPSTREAM_UNREACHABLE', `the connection failed: ${reason}`, {
    where,
    hint: 'Check the address and the network, then try again.',
    cause: thrown,
  });
}
