import { Readable } from 'node:stream';
import { type Agent, request } from 'undici';
import { SnapgateError } from '../../shared/errors.ts';
import { followRedirects } from '../../shared/registry/redirects.ts';
import { type DirectBody, requestDirectly } from './direct-blob.ts';
import { forForeign, type HeaderMap, headerValue, type OutgoingHeaders } from './headers.ts';
import type { RegistryLogin, RegistryScope } from './registry-login.ts';
import { transportError } from './transport.ts';

/** A request to pass on. */
export type UpstreamRequest = {
  readonly method: string;
  readonly url: URL;
  readonly headers: OutgoingHeaders;
  readonly body?: AsyncIterable<Uint8Array> | undefined;
  readonly signal: AbortSignal;
  /** Whether the answer may come as a {@link DirectBody}. */
  readonly direct?: boolean;
  /** What the gateway's own credentials are asked for, where it uses them. */
  readonly scope?: RegistryScope | undefined;
};

/** An answer whose body has not been read yet; it must be read to its end or destroyed. */
export type UpstreamAnswer = {
  readonly status: number;
  readonly headers: HeaderMap;
  readonly body: Readable;
  /** The body instead of `body`, which is empty then. */
  readonly direct?: DirectBody;
};

export type UpstreamOptions = {
  readonly agent: Agent;
  /** Origin of the registry. */
  readonly baseUrl: URL;
  /**
   * Until the headers of an answer have come, in milliseconds. Registries read an upload once more
   * before they answer its end, so this is no small number.
   */
  readonly answerTimeoutMs: number;
  /** Until a connection is made, and the longest pause in a body, in milliseconds. */
  readonly connectTimeoutMs: number;
  readonly stallTimeoutMs: number;
  /** The gateway's own credentials instead of those that a request brings. */
  readonly login?: RegistryLogin | undefined;
  /** Told how long each answer took until its headers, in seconds. */
  readonly onAnswer?: (method: string, status: number, seconds: number) => void;
};

/** Gives up an answer whose body is not wanted. */
export function discard(answer: UpstreamAnswer): void {
  answer.direct?.destroy();
  answer.body.on('error', () => {}).destroy();
}

/** The registry behind the gateway, as requests are passed on to it. */
export class Upstream {
  readonly baseUrl: URL;
  readonly #options: UpstreamOptions;

  constructor(options: UpstreamOptions) {
    this.baseUrl = options.baseUrl;
    this.#options = options;
  }

  /** An address of the registry. `path` may have a query. */
  url(path: string): URL {
    return new URL(path, this.baseUrl);
  }

  /**
   * Sends a request and follows redirects of reads. Credentials go to the registry's own origin
   * alone. Whatever status comes is an answer; throws as {@link transportError}, and UPSTREAM_FAILED
   * when the registry does not take the gateway's own credentials.
   */
  async send(call: UpstreamRequest): Promise<UpstreamAnswer> {
    const { login } = this.#options;
    if (login === undefined) return this.#follow(call);
    const { authorization: _, ...headers } = call.headers;
    const { scope, signal } = call;
    if (scope === undefined) return this.#follow({ ...call, headers });
    const known =
      login.header(scope) ?? (call.body && (await ownLogin(() => login.prepare(scope, signal))));
    const answer = await this.#follow({ ...call, headers: withLogin(headers, known) });
    if (answer.status !== 401) return answer;
    discard(answer);
    const challenge = [answer.headers['www-authenticate'] ?? []].flat().join(', ');
    const renewed = await ownLogin(() => login.answer(challenge, scope, signal));
    // A body that has been sent cannot be sent again.
    if (renewed === undefined || call.body !== undefined) throw loginRefused(scope);
    const second = await this.#follow({ ...call, headers: withLogin(headers, renewed) });
    if (second.status !== 401) return second;
    discard(second);
    throw loginRefused(scope);
  }

  #follow(call: UpstreamRequest): Promise<UpstreamAnswer> {
    return followRedirects(call, (url) => this.#once({ ...call, url }), {
      location: ({ headers }) => headerValue(headers, 'location'),
      discard,
    });
  }

  async #once(call: UpstreamRequest): Promise<UpstreamAnswer> {
    const own = call.url.origin === this.baseUrl.origin;
    const sent = own ? call : { ...call, headers: forForeign(call.headers) };
    const start = performance.now();
    const answer = (await this.#directly(sent)) ?? (await this.#usually(sent));
    const seconds = (performance.now() - start) / 1000;
    this.#options.onAnswer?.(call.method, answer.status, seconds);
    return answer;
  }

  async #directly(call: UpstreamRequest): Promise<UpstreamAnswer | undefined> {
    if (!call.direct || call.method !== 'GET') return undefined;
    const { connectTimeoutMs, answerTimeoutMs, stallTimeoutMs } = this.#options;
    const times = { connectTimeoutMs, answerTimeoutMs, stallTimeoutMs };
    const answer = await requestDirectly({ ...call, ...times });
    return answer && { body: Readable.from([]), ...answer };
  }

  async #usually(call: UpstreamRequest): Promise<UpstreamAnswer> {
    const { method, url, headers, body, signal } = call;
    const { agent, answerTimeoutMs } = this.#options;
    try {
      const response = await request(url, {
        ...{ method: method as 'GET', headers, signal, dispatcher: agent },
        body: (body ?? null) as Uint8Array | null,
        headersTimeout: answerTimeoutMs,
      });
      return { status: response.statusCode, headers: response.headers, body: response.body };
    } catch (thrown) {
      throw transportError(thrown, call);
    }
  }
}

function withLogin(headers: OutgoingHeaders, authorization: string | undefined): OutgoingHeaders {
  return authorization === undefined ? headers : { ...headers, authorization };
}

/** What goes wrong with the gateway's own credentials is none of the client's. */
async function ownLogin<Result>(step: () => Promise<Result>): Promise<Result> {
  try {
    return await step();
  } catch (thrown) {
    if (!(thrown instanceof SnapgateError) || thrown.code !== 'UNAUTHORIZED') throw thrown;
    throw new SnapgateError('UPSTREAM_FAILED', thrown.message, { cause: thrown });
  }
}

function loginRefused({ repository }: RegistryScope): SnapgateError {
  return new SnapgateError('UPSTREAM_FAILED', "the registry refuses the gateway's credentials", {
    where: repository,
    hint: "Check upstream.credentials in the gateway's configuration.",
  });
}
