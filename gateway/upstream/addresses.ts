import type { OutgoingHeaders } from './headers.ts';
import type { SealedUrls } from './sealed-url.ts';

/** Start of an upload's session when it is a sealed address and not the registry's own. */
const SEALED = '~snapgate.';

/** Rewrites the addresses in a registry's answers so that clients come back to the gateway. */
export class Addresses {
  readonly #baseUrl: URL;
  readonly #sealed: SealedUrls;

  constructor(baseUrl: URL, sealed: SealedUrls) {
    this.#baseUrl = baseUrl;
    this.#sealed = sealed;
  }

  /**
   * The headers of an answer with Location, Link and WWW-Authenticate rewritten. `origin` is the
   * gateway's own as the client knows it.
   */
  rewrite(
    headers: OutgoingHeaders,
    context: { readonly repository: string | undefined; readonly origin: string },
  ): OutgoingHeaders {
    const { location, link, ...rest } = headers;
    const rewritten: OutgoingHeaders = rest;
    if (typeof location === 'string') {
      const found = this.#location(location, context.repository);
      if (found !== undefined) rewritten.location = found;
    }
    if (typeof link === 'string') rewritten.link = this.#link(link);
    const challenge = rest['www-authenticate'];
    if (challenge !== undefined) {
      const all = Array.isArray(challenge) ? challenge : [challenge];
      rewritten['www-authenticate'] = all.map((one) => this.#challenge(one, context.origin));
    }
    return rewritten;
  }

  /** Where an upload of a repository goes on: the address behind `session`, with the query. */
  uploadUrl(repository: string, session: string, query: string): URL | undefined {
    const url = session.startsWith(SEALED)
      ? this.#sealed.open(`upload ${repository}`, session.slice(SEALED.length))
      : new URL(`/v2/${repository}/blobs/uploads/${session}`, this.#baseUrl);
    if (url !== undefined) url.search = query;
    return url;
  }

  /** The token service of the registry's own origin behind a sealed address. */
  tokenUrl(sealed: string, query: string): URL | undefined {
    const url = this.#sealed.open('token', sealed);
    if (url !== undefined) url.search = query;
    return url;
  }

  /**
   * Relative, so that it holds under whatever name the client knows the gateway. A registry may
   * give addresses under a public name that is not the one it is reached by; its upload paths are
   * known by their form. What is neither its API nor its origin is sealed.
   */
  #location(location: string, repository: string | undefined): string | undefined {
    const url = URL.parse(location, this.#baseUrl.href);
    if (url === null || !/^https?:$/.test(url.protocol)) return undefined;
    const path = `${url.pathname}${url.search}`;
    if (url.origin === this.#baseUrl.origin && url.pathname.startsWith('/v2/')) return path;
    if (repository === undefined) return undefined;
    if (url.pathname.startsWith(`/v2/${repository}/`)) return path;
    const sealed = this.#sealed.seal(`upload ${repository}`, url);
    return `/v2/${repository}/blobs/uploads/${SEALED}${sealed}${url.search}`;
  }

  /** RFC 8288. */
  #link(link: string): string {
    return link.replace(/<([^>]*)>/g, (whole, target: string) => {
      const url = URL.parse(target, this.#baseUrl.href);
      return url?.pathname.startsWith('/v2/') ? `<${url.pathname}${url.search}>` : whole;
    });
  }

  /**
   * A token service elsewhere is asked by the client itself. One on the registry's own origin is
   * asked through the gateway, as clients may not reach that origin.
   */
  #challenge(challenge: string, origin: string): string {
    return challenge.replace(/\brealm="([^"]*)"/gi, (whole, realm: string) => {
      const url = URL.parse(realm);
      if (url === null || url.origin !== this.#baseUrl.origin) return whole;
      return `realm="${origin}/_snapgate/token/${this.#sealed.seal('token', url)}${url.search}"`;
    });
  }
}
