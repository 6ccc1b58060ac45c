import { createRemoteJWKSet, customFetch, type JWTVerifyGetKey } from 'jose';
import { SnapgateError } from '../../shared/errors.ts';
import { displayUrl, readBody, type Transport } from '../../shared/registry/transport.ts';

/** Largest answer read, in bytes, and most keys of one issuer. */
const MAX_ANSWER = 256 * 1024;
const MAX_KEYS = 64;
/** How long an issuer may take to answer, in milliseconds. */
const ANSWER_MS = 5000;
/** How long keys are used without asking again. */
const KEYS_MS = 10 * 60 * 1000;
/** How soon after an answer, or after a failure, an unknown key leads to another question. */
const COOLDOWN_MS = 30 * 1000;
/** How long it is believed where the keys are. */
const DISCOVERY_MS = 24 * 3600 * 1000;

export type IssuerKeysOptions = {
  readonly transport: Transport;
  /** As it stands in tokens. */
  readonly issuer: string;
  /** Where its keys are, as a JSON Web Key Set; found out when absent (OpenID Connect Discovery 1.0). */
  readonly keys?: URL | undefined;
};

/** Whether keys may be fetched from there: nobody may exchange them on the way. */
export function isSafeKeyUrl(text: string): boolean {
  const url = URL.parse(text);
  if (url === null || url.username !== '' || url.password !== '') return false;
  if (url.protocol === 'https:') return true;
  return url.protocol === 'http:' && ['127.0.0.1', 'localhost', '[::1]'].includes(url.hostname);
}

/**
 * The keys of an issuer of tokens, asked for when they are needed, again after some minutes, and when
 * a token names a key that is not among them, so that an issuer may change its keys at any time.
 */
export class IssuerKeys {
  readonly #options: IssuerKeysOptions;
  #source: { readonly from: number; readonly getKey: Promise<JWTVerifyGetKey> } | undefined;
  #failed: { readonly at: number; readonly error: SnapgateError } | undefined;

  constructor(options: IssuerKeysOptions) {
    this.#options = options;
  }

  /** The key for a token, for jose. Throws UPSTREAM_UNREACHABLE, UPSTREAM_FAILED. */
  readonly getKey: JWTVerifyGetKey = async (header, token) => {
    const now = performance.now();
    if (this.#source === undefined || now - this.#source.from > DISCOVERY_MS) {
      this.#source = { from: now, getKey: this.#find() };
    }
    try {
      return await (await this.#source.getKey)(header, token);
    } catch (thrown) {
      // Where the keys are may have changed, or was never known.
      if (thrown instanceof SnapgateError) this.#source = undefined;
      throw thrown;
    }
  };

  async #find(): Promise<JWTVerifyGetKey> {
    const url = this.#options.keys ?? (await this.#discover());
    return createRemoteJWKSet(url, {
      ...{ timeoutDuration: ANSWER_MS, cooldownDuration: COOLDOWN_MS, cacheMaxAge: KEYS_MS },
      [customFetch]: async () => Response.json(await this.#fetchKeys(url)),
    });
  }

  async #discover(): Promise<URL> {
    const { issuer } = this.#options;
    const url = new URL(`${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`);
    const { issuer: named, jwks_uri: keys } = (await this.#fetch(url)) as Record<string, unknown>;
    if (named === issuer && typeof keys === 'string' && isSafeKeyUrl(keys)) return new URL(keys);
    throw this.#fail('it does not describe itself as it should', url);
  }

  async #fetchKeys(url: URL): Promise<{ keys: unknown[] }> {
    const { keys } = (await this.#fetch(url)) as { keys?: unknown };
    if (!Array.isArray(keys) || keys.length > MAX_KEYS) {
      throw this.#fail(`it does not give a list of at most ${MAX_KEYS} keys`, url);
    }
    return { keys };
  }

  /** A JSON object. A failure stands for a while, so that bad tokens cannot make it be asked on end. */
  async #fetch(url: URL): Promise<object> {
    const failed = this.#failed;
    if (failed !== undefined && performance.now() - failed.at < COOLDOWN_MS) throw failed.error;
    let answer: Awaited<ReturnType<Transport>>;
    let body: Awaited<ReturnType<typeof readBody>>;
    try {
      const signal = AbortSignal.timeout(ANSWER_MS);
      const headers = { accept: 'application/json' };
      answer = await this.#options.transport({ method: 'GET', url, headers, signal });
      body = await readBody(answer.body, MAX_ANSWER);
    } catch (cause) {
      throw this.#fail('it does not answer', url, cause);
    }
    if (answer.status !== 200) throw this.#fail(`it answered ${answer.status}`, url);
    try {
      const json: unknown = JSON.parse(Buffer.from(body.bytes).toString('utf8'));
      if (!body.truncated && typeof json === 'object' && json !== null) return json;
    } catch {
      // Said below.
    }
    throw this.#fail('its answer is too large or no JSON', url);
  }

  #fail(reason: string, url: URL, cause?: unknown): SnapgateError {
    const code = cause === undefined ? 'UPSTREAM_FAILED' : 'UPSTREAM_UNREACHABLE';
    const error = new SnapgateError(code, `the issuer of the token: ${reason}`, {
      where: displayUrl(url),
      hint: 'Try again in a minute.',
      cause,
    });
    this.#failed = { at: performance.now(), error };
    return error;
  }
}
