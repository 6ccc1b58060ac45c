import { SnapgateError } from '../../shared/errors.ts';
import type { AccessRules, Wish } from './access-rules.ts';
import type { IssuedToken, OwnTokens } from './own-tokens.ts';
import type { Passwords } from './passwords.ts';
import { ANONYMOUS, type Client, isPrincipalName } from './principal.ts';
import type { TokenIssuers } from './token-issuers.ts';

export type AccessOptions = {
  readonly rules: AccessRules;
  readonly tokens: OwnTokens;
  readonly passwords?: Passwords | undefined;
  readonly issuers?: TokenIssuers | undefined;
};

/** What a request shows of whoever makes it. */
export type Shown = {
  /** The Authorization header. */
  readonly authorization: string | undefined;
  /** Common name of a client certificate that was accepted. */
  readonly certificate: string | undefined;
  /** The client's address. */
  readonly address: string;
};

/** A name and a password, or a token in its place. */
type Login = { readonly name: string; readonly password: string };
type Known = { readonly client: Client; readonly until?: number };

/** Who may use the gateway. */
export class Access {
  readonly rules: AccessRules;
  readonly #options: AccessOptions;

  constructor(options: AccessOptions) {
    this.#options = options;
    this.rules = options.rules;
  }

  /** Whether there are credentials that could be shown. */
  get hasLogins(): boolean {
    return this.#options.passwords !== undefined || this.#options.issuers !== undefined;
  }

  /**
   * Finds out who makes a request. Throws UNAUTHORIZED for credentials that are not right,
   * TOOMANYREQUESTS, and what asking the issuer of a token throws.
   */
  async identify(shown: Shown): Promise<Client> {
    const { client } = await this.#known(shown);
    const { certificate } = shown;
    if (!isPrincipalName(certificate)) return client;
    return { principals: [...client.principals, { kind: 'certificate', name: certificate }] };
  }

  /** Throws UNAUTHORIZED, DENIED. */
  check(client: Client, wish: Wish): void {
    this.rules.check(client, wish);
  }

  /**
   * Gives a token for a name and a password, or for a token of an issuer; an anonymous one where
   * nothing is shown and something is open to anyone. Throws as {@link identify}.
   */
  async issue(shown: Omit<Shown, 'certificate'>): Promise<IssuedToken> {
    const { client, until } = await this.#known({ ...shown, certificate: undefined });
    if (client.principals.length === 0 && !this.rules.isOpenToAnyone) {
      throw new SnapgateError('UNAUTHORIZED', 'nothing here is open to anyone', {
        hint: 'Log in to this gateway.',
      });
    }
    return this.#options.tokens.issue(client, until);
  }

  async #known({ authorization, address }: Shown): Promise<Known> {
    if (authorization === undefined) return { client: ANONYMOUS };
    const [, scheme = '', value = ''] = /^(\w+) +(\S+) *$/.exec(authorization) ?? [];
    if (scheme.toLowerCase() === 'bearer') return this.#byToken(value);
    const login = scheme.toLowerCase() === 'basic' ? parseBasic(value) : undefined;
    if (login === undefined) throw wrong('the Authorization header cannot be read');
    // Clients that know no credentials send empty ones.
    if (login.name === '' && login.password === '') return { client: ANONYMOUS };
    return this.#byLogin(login, address);
  }

  async #byToken(token: string): Promise<Known> {
    const { tokens, issuers } = this.#options;
    if (!tokens.isOwn(token) && issuers !== undefined) {
      const { principal, until } = await issuers.verify(token);
      return { client: { principals: [principal] }, until };
    }
    const client = tokens.open(token);
    if (client === undefined) throw wrong('the token is not one of this gateway, or has ended');
    return { client };
  }

  /** A token can stand in a password's place, for clients that know nothing but passwords. */
  async #byLogin({ name, password }: Login, address: string): Promise<Known> {
    const { passwords, issuers } = this.#options;
    if (issuers !== undefined && /^[\w-]+\.[\w-]+\.[\w-]+$/.test(password)) {
      const { principal, until } = await issuers.verify(password);
      return { client: { principals: [principal] }, until };
    }
    if ((await passwords?.isRight(name, password, address)) && isPrincipalName(name)) {
      return { client: { principals: [{ kind: 'user', name }] } };
    }
    throw wrong('the name or the password is wrong');
  }
}

/** RFC 7617. */
function parseBasic(value: string): Login | undefined {
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(value)) return undefined;
  const text = Buffer.from(value, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 0) return undefined;
  return { name: text.slice(0, colon), password: text.slice(colon + 1) };
}

function wrong(message: string): SnapgateError {
  return new SnapgateError('UNAUTHORIZED', message, { hint: 'Log in to this gateway again.' });
}
