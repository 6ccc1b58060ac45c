import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import type { Client } from './principal.ts';

/** What a token of the gateway's own begins with; a JSON Web Token never does. */
const PREFIX = 'snapgate.';

/** A token and when it was made. */
export type IssuedToken = {
  readonly token: string;
  /** Seconds. */
  readonly expiresIn: number;
  readonly issuedAt: Date;
};

/**
 * Tokens that say who somebody has shown to be, for a few minutes, so that not every request carries
 * a password. They are signed with a key of this process and say nothing of what is allowed.
 */
export class OwnTokens {
  readonly #key = randomBytes(32);
  readonly #seconds: number;
  readonly #now: () => number;

  /** `now` gives milliseconds. */
  constructor(seconds: number, now: () => number = Date.now) {
    this.#seconds = seconds;
    this.#now = now;
  }

  /** Makes a token that ends no later than `until` (milliseconds), where that is given. */
  issue(client: Client, until?: number): IssuedToken {
    const now = this.#now();
    const end = Math.min(now + this.#seconds * 1000, until ?? Number.POSITIVE_INFINITY);
    const text = Buffer.from(JSON.stringify({ client, end })).toString('base64url');
    const token = `${PREFIX}${text}.${this.#mac(text).toString('base64url')}`;
    const expiresIn = Math.max(0, Math.floor((end - now) / 1000));
    return { token, expiresIn, issuedAt: new Date(now) };
  }

  /** Whether a text is meant to be such a token. */
  isOwn(token: string): boolean {
    return token.startsWith(PREFIX);
  }

  /** Who a token says somebody is; undefined when it is not one of these or has ended. */
  open(token: string): Client | undefined {
    const [text = '', mac = '', ...rest] = token.slice(PREFIX.length).split('.');
    const given = Buffer.from(mac, 'base64url');
    const right = this.#mac(text);
    if (!this.isOwn(token) || rest.length > 0 || given.length !== right.length) return undefined;
    if (!timingSafeEqual(given, right)) return undefined;
    const { client, end } = JSON.parse(Buffer.from(text, 'base64url').toString('utf8'));
    return end > this.#now() ? (client as Client) : undefined;
  }

  #mac(text: string): Buffer {
    return createHmac('sha256', this.#key).update(text).digest();
  }
}
