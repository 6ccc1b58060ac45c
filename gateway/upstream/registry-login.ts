import { keepNewest } from '../../shared/keep-newest.ts';
import { Authenticator, type Credentials } from '../../shared/registry/authenticator.ts';
import { discardBody, type Transport } from '../../shared/registry/transport.ts';

/** Most repositories whose tokens are kept. */
const MAX_OPEN = 1000;

/** What a request needs of the registry. */
export type RegistryScope = {
  /** Whose credentials are taken; empty for what concerns no single one. */
  readonly repository: string;
  /** As token services know it: `repository:os/server:pull`. */
  readonly text: string;
};

export type RegistryLoginOptions = {
  readonly transport: Transport;
  readonly baseUrl: URL;
  /** The gateway's own credentials for a repository. */
  readonly credentials: (repository: string) => Credentials | undefined;
};

/** The gateway's own way into the registry, for requests of clients that it let in itself. */
export class RegistryLogin {
  readonly #options: RegistryLoginOptions;
  readonly #open = new Map<string, Authenticator>();

  constructor(options: RegistryLoginOptions) {
    this.#options = options;
  }

  /** The Authorization header that is known for a scope. */
  header({ repository, text }: RegistryScope): string | undefined {
    return this.#authenticator(repository).header(text);
  }

  /** Asks the registry who may come in, for requests that cannot be made twice. */
  async prepare(scope: RegistryScope, signal: AbortSignal): Promise<string | undefined> {
    const { transport, baseUrl } = this.#options;
    const url = new URL('/v2/', baseUrl);
    const answer = await transport({ method: 'GET', url, headers: {}, signal });
    await discardBody(answer.body);
    const challenge = answer.headers['www-authenticate'];
    if (answer.status !== 401 || challenge === undefined) return undefined;
    return this.answer(challenge, scope, signal);
  }

  /** What to send after a challenge; undefined when there is nothing else. Throws UNAUTHORIZED. */
  answer(
    challenge: string,
    { repository, text }: RegistryScope,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    return this.#authenticator(repository).answer(challenge, text, signal);
  }

  #authenticator(repository: string): Authenticator {
    const { transport, credentials } = this.#options;
    const found =
      this.#open.get(repository) ?? new Authenticator(transport, credentials(repository));
    keepNewest(this.#open, repository, found, MAX_OPEN);
    return found;
  }
}
