import * as v from 'valibot';
import { SnapgateError } from '../errors.ts';
import { parseChallenges } from './challenge.ts';
import { discardBody, displayUrl, readBody, type Transport } from './transport.ts';

/** What proves to a registry who asks. */
export type Credentials =
  | { readonly kind: 'basic'; readonly username: string; readonly password: string }
  | { readonly kind: 'identity-token'; readonly token: string };

const MAX_TOKEN_ANSWER = 256 * 1024;
/** Tokens without `expires_in` last 60 seconds, as the token specification says. */
const DEFAULT_LIFETIME_SECONDS = 60;

const tokenSchema = v.object({
  token: v.optional(v.string()),
  access_token: v.optional(v.string()),
  expires_in: v.optional(v.number()),
});

type CachedToken = { readonly header: string; readonly expires: number };

/** The header value of Basic authentication (RFC 7617). */
export function basicHeader(username: string, password: string): string {
  return `Basic ${Buffer.from(`${username}:${password}`, 'utf8').toString('base64')}`;
}

/**
 * Answers a registry's challenges: Basic, and the token flow of the distribution project (GET with
 * Basic credentials or none; POST with an identity token). Tokens are kept by scope until shortly
 * before they end. One authenticator serves one registry; its headers must go to no other origin.
 */
export class Authenticator {
  readonly #transport: Transport;
  readonly #credentials: Credentials | undefined;
  readonly #now: () => number;
  readonly #headers = new Map<string, CachedToken>();

  constructor(
    transport: Transport,
    credentials: Credentials | undefined,
    now: () => number = Date.now,
  ) {
    this.#transport = transport;
    this.#credentials = credentials;
    this.#now = now;
  }

  /** The Authorization header known for a scope, such as `repository:os/server:pull`. */
  header(scope: string): string | undefined {
    const found = this.#headers.get(scope);
    return found !== undefined && found.expires > this.#now() ? found.header : undefined;
  }

  /**
   * Learns from the WWW-Authenticate header of a 401 what to send for `scope`, and returns it;
   * undefined when nothing more can be done, so that the 401 stands.
   */
  async answer(
    challenge: string,
    scope: string,
    signal?: AbortSignal,
  ): Promise<string | undefined> {
    const challenges = parseChallenges(challenge);
    const bearer = challenges.find((c) => c.scheme === 'bearer' && c.parameters.realm);
    if (bearer !== undefined) {
      const { realm = '', service } = bearer.parameters;
      const token = await this.#fetchToken(realm, service, scope, signal);
      this.#headers.set(scope, token);
      return token.header;
    }
    if (!challenges.some((c) => c.scheme === 'basic')) return undefined;
    if (this.#credentials?.kind !== 'basic') return undefined;
    const header = basicHeader(this.#credentials.username, this.#credentials.password);
    if (this.header(scope) === header) return undefined;
    this.#headers.set(scope, { header, expires: Number.POSITIVE_INFINITY });
    return header;
  }

  async #fetchToken(
    realm: string,
    service: string | undefined,
    scope: string,
    signal: AbortSignal | undefined,
  ): Promise<CachedToken> {
    const url = URL.parse(realm);
    if (url === null || !['http:', 'https:'].includes(url.protocol)) {
      throw new SnapgateError('UPSTREAM_FAILED', 'the registry names no usable token service');
    }
    const response = await this.#transport({ ...this.#tokenRequest(url, service, scope), signal });
    if (response.status !== 200) {
      await discardBody(response.body);
      const code = [400, 401, 403].includes(response.status) ? 'UNAUTHORIZED' : 'UPSTREAM_FAILED';
      throw new SnapgateError(code, `the token service answered ${response.status}`, {
        where: displayUrl(url),
        hint: 'Check the credentials for this registry.',
      });
    }
    const { bytes } = await readBody(response.body, MAX_TOKEN_ANSWER);
    const parsed = v.safeParse(tokenSchema, parseJson(bytes));
    const token = parsed.success ? (parsed.output.token ?? parsed.output.access_token) : undefined;
    if (!parsed.success || !token || /[^\x21-\x7e]/.test(token)) {
      throw new SnapgateError('UPSTREAM_FAILED', 'the token service gave no token', {
        where: displayUrl(url),
      });
    }
    const lifetime = Math.max(parsed.output.expires_in ?? 0, DEFAULT_LIFETIME_SECONDS);
    // A tenth is kept in hand, for clocks and for the time a request is under way.
    return { header: `Bearer ${token}`, expires: this.#now() + lifetime * 900 };
  }

  #tokenRequest(url: URL, service: string | undefined, scope: string) {
    const credentials = this.#credentials;
    if (credentials?.kind === 'identity-token') {
      const form = new URLSearchParams({
        grant_type: 'refresh_token',
        client_id: 'snapgate',
        refresh_token: credentials.token,
        scope,
        ...(service === undefined ? {} : { service }),
      });
      return {
        method: 'POST',
        url,
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: Buffer.from(form.toString()),
      };
    }
    if (service !== undefined) url.searchParams.set('service', service);
    url.searchParams.append('scope', scope);
    const headers: Record<string, string> =
      credentials === undefined
        ? {}
        : { authorization: basicHeader(credentials.username, credentials.password) };
    return { method: 'GET', url, headers };
  }
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
}
