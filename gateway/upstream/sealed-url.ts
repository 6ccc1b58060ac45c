import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';

/**
 * Makes addresses that the registry gave into parts of the gateway's own paths, and back. They are
 * signed with a key of this process, so that no client can make the gateway ask an address of its
 * own choice. The query is not sealed: clients must be able to add to it.
 */
export class SealedUrls {
  readonly #key = randomBytes(32);

  /** Seals origin and path of a URL for one purpose, such as uploads to a repository. */
  seal(purpose: string, url: URL): string {
    const text = Buffer.from(`${url.origin}${url.pathname}`).toString('base64url');
    return `${text}.${this.#mac(purpose, text).toString('base64url')}`;
  }

  /** The URL that was sealed for this purpose, without query; undefined for anything else. */
  open(purpose: string, sealed: string): URL | undefined {
    const [text = '', mac = '', ...rest] = sealed.split('.');
    const given = Buffer.from(mac, 'base64url');
    const right = this.#mac(purpose, text);
    if (rest.length > 0 || given.length !== right.length) return undefined;
    if (!timingSafeEqual(given, right)) return undefined;
    return URL.parse(Buffer.from(text, 'base64url').toString('utf8')) ?? undefined;
  }

  #mac(purpose: string, text: string): Buffer {
    return createHmac('sha256', this.#key).update(`${purpose}\n${text}`).digest().subarray(0, 16);
  }
}
