import { setTimeout as sleep } from 'node:timers/promises';
import { type ErrorCode, SnapgateError } from '../errors.ts';
import { MAX_MANIFEST_BYTES } from '../oci/manifest.ts';
import { Authenticator, type Credentials } from './authenticator.ts';
import { followRedirects } from './redirects.ts';
import {
  discardBody,
  displayUrl,
  type HttpResponse,
  readBody,
  type Transport,
} from './transport.ts';

const MAX_ERROR_BODY = 16 * 1024;
const MAX_PAGES = 1000;
const TRIES = 4;
/** A registry that asks for a longer pause than this is reported instead of waited for. */
const LONGEST_PAUSE_SECONDS = 30;

/** How a repository is reached. */
export type RepositoryOptions = {
  readonly transport: Transport;
  /** Origin of the registry: `https://host[:port]`. */
  readonly baseUrl: URL;
  readonly repository: string;
  readonly credentials?: Credentials | undefined;
  /** An Authorization header sent as it is, instead of `credentials`: for a client's own. */
  readonly authorization?: string | undefined;
  /** Pauses before another try; tests replace it. Milliseconds. */
  readonly pause?: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
};

/** One request to a repository. */
export type Call = {
  readonly method: string;
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal | undefined;
  readonly scope?: 'pull' | 'pull,push' | 'pull,push,delete';
  /** What a 404 means here. */
  readonly unknown: ErrorCode;
};

/**
 * Requests to one repository: authentication, redirects, other tries, pages, and answers that are no
 * success turned into errors. Reads are tried again after a reset, a 429 or a 5xx; writes are not.
 * The registry's credentials go to its own origin only, also after a redirect.
 */
export class RepositoryRequests {
  readonly #options: RepositoryOptions;
  readonly #authenticator: Authenticator;
  readonly #pause: (milliseconds: number, signal?: AbortSignal) => Promise<void>;

  constructor(options: RepositoryOptions) {
    this.#options = options;
    this.#authenticator = new Authenticator(options.transport, options.credentials);
    this.#pause = options.pause ?? ((ms, signal) => sleep(ms, undefined, signal ? { signal } : {}));
  }

  /** The address of a path below `/v2/<name>/`. */
  url(path: string): URL {
    return new URL(`/v2/${this.#options.repository}/${path}`, this.#options.baseUrl);
  }

  /** Waits, milliseconds. */
  pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
    return this.#pause(milliseconds, signal);
  }

  /** Follows the Link header of paged answers (RFC 8288), within this registry only. */
  async *pages(path: string, unknown: ErrorCode, signal?: AbortSignal): AsyncGenerator<unknown> {
    let url: URL | undefined = this.url(path);
    for (let page = 0; url !== undefined && page < MAX_PAGES; page += 1) {
      const response: HttpResponse = await this.read({ method: 'GET', url, unknown, signal });
      const { bytes, truncated } = await readBody(response.body, MAX_MANIFEST_BYTES);
      if (truncated)
        throw new SnapgateError('LIMIT_EXCEEDED', 'answer too large', { where: displayUrl(url) });
      try {
        yield JSON.parse(Buffer.from(bytes).toString('utf8'));
      } catch (cause) {
        throw new SnapgateError('UPSTREAM_FAILED', 'answer is not JSON', {
          where: displayUrl(url),
          cause,
        });
      }
      const next: string | undefined = /<([^>]*)>\s*;[^,]*\brel="?next"?/.exec(
        response.headers.link ?? '',
      )?.[1];
      const following: URL | null = next === undefined ? null : URL.parse(next, url.href);
      url = following !== null && following.origin === url.origin ? following : undefined;
    }
  }

  /** Sends a request that may be made again; throws for what is no success after all tries. */
  async read(call: Call): Promise<HttpResponse> {
    for (let attempt = 1; ; attempt += 1) {
      let wait = 2 ** attempt * 100 * (0.5 + Math.random());
      try {
        const response = await this.#send(call);
        if (response.status < 300) return await refusePage(response, call);
        const pause = retryAfterSeconds(response);
        const again = [429, 500, 502, 503, 504].includes(response.status);
        if (!again || attempt >= TRIES || pause > LONGEST_PAUSE_SECONDS)
          throw await failure(response, call);
        await discardBody(response.body);
        wait = Math.max(wait, pause * 1000);
      } catch (thrown) {
        const lost = thrown instanceof SnapgateError && thrown.code === 'UPSTREAM_UNREACHABLE';
        if (!lost || attempt >= TRIES) throw thrown;
      }
      await this.#pause(wait, call.signal);
    }
  }

  /** Sends a request once; throws for what is no success. */
  async write(call: Call): Promise<HttpResponse> {
    const response = await this.#send({ scope: 'pull,push', ...call });
    if (response.status < 300) return response;
    throw await failure(response, call);
  }

  /** Sends with authentication; a body that is a stream is only sent once, after the challenge. */
  async #send(call: Call): Promise<HttpResponse> {
    const scope = `repository:${this.#options.repository}:${call.scope ?? 'pull'}`;
    let known = this.#options.authorization ?? this.#authenticator.header(scope);
    for (let attempt = 0; ; attempt += 1) {
      const response = await this.#follow(call, known);
      const challenge = response.headers['www-authenticate'];
      const stuck = attempt > 0 || this.#options.authorization !== undefined;
      if (response.status !== 401 || challenge === undefined || stuck) return response;
      const streamed = call.body !== undefined && !(call.body instanceof Uint8Array);
      const answer = await this.#authenticator.answer(challenge, scope, call.signal);
      if (answer === undefined || streamed) return response;
      await discardBody(response.body);
      known = answer;
    }
  }

  #follow(call: Call, authorization: string | undefined): Promise<HttpResponse> {
    const { method, body, signal } = call;
    const send = (url: URL) => {
      const isOwn = url.origin === this.#options.baseUrl.origin;
      const headers = {
        ...call.headers,
        ...(isOwn && authorization !== undefined ? { authorization } : {}),
      };
      const request = { method, url, headers, signal };
      return this.#options.transport(body === undefined ? request : { ...request, body });
    };
    return followRedirects(call, send, {
      location: ({ headers }) => headers.location,
      discard: (answer) => discardBody(answer.body),
    });
  }
}

/** Seconds of a Retry-After header (RFC 9110, section 10.2.3); 0 when there is none. */
export function retryAfterSeconds(
  response: Pick<HttpResponse, 'headers'>,
  now = Date.now(),
): number {
  const text = response.headers['retry-after'];
  if (text === undefined) return 0;
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : 0;
}

/**
 * No answer of a registry is a web page; one that comes with success is that of a network that wants a
 * login first. Throws UPSTREAM_FAILED for it, so that nobody takes it for content.
 */
async function refusePage(response: HttpResponse, { url }: Call): Promise<HttpResponse> {
  if (!/^text\/html\b/i.test(response.headers['content-type'] ?? '')) return response;
  await discardBody(response.body);
  throw new SnapgateError('UPSTREAM_FAILED', 'a web page was answered', {
    where: displayUrl(url),
    hint: 'The network may want a login first, or the address is not that of a registry.',
  });
}

/** Turns an answer that is no success into an error, with the registry's own words as its cause. */
async function failure(response: HttpResponse, call: Call): Promise<SnapgateError> {
  const where = displayUrl(call.url);
  const { bytes } = await readBody(response.body, MAX_ERROR_BODY).catch(() => ({
    bytes: new Uint8Array(),
  }));
  const said = registryMessage(bytes);
  const message = `the registry answered ${response.status}${said === '' ? '' : `: ${said}`}`;
  switch (response.status) {
    case 401:
      return new SnapgateError('UNAUTHORIZED', message, {
        where,
        hint: 'Log in to the registry, or check the auth file.',
      });
    case 403:
      return new SnapgateError('DENIED', message, {
        where,
        hint: 'Ask for access to this repository.',
      });
    case 404:
      return new SnapgateError(call.unknown, message, { where });
    case 429:
      return new SnapgateError('TOOMANYREQUESTS', message, { where, ...comeBack(response) });
    default:
      return new SnapgateError('UPSTREAM_FAILED', message, {
        where,
        ...(response.headers['retry-after'] === undefined ? {} : comeBack(response)),
      });
  }
}

/** What a server says of when to ask again. */
function comeBack(response: HttpResponse): { hint: string; retryAfter?: number } {
  const retryAfter = Math.ceil(retryAfterSeconds(response));
  if (retryAfter === 0) return { hint: 'Try again later.' };
  return { hint: `Try again in ${retryAfter} s.`, retryAfter };
}

function registryMessage(bytes: Uint8Array): string {
  try {
    const body = JSON.parse(Buffer.from(bytes).toString('utf8'));
    const first = body?.errors?.[0];
    const text = `${first?.code ?? ''} ${first?.message ?? ''}`.trim();
    // Printable ASCII only: it ends up on terminals and in logs.
    return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 300);
  } catch {
    return '';
  }
}
