/** Longest name of a principal, in characters (OpenID Connect Core 1.0 bounds `sub` likewise). */
const MAX_NAME = 255;

/**
 * Somebody whom the gateway knows: `user` by a password, `certificate` by the common name of a
 * client certificate, any other kind by a token of the issuer of that name.
 */
export type Principal = { readonly kind: string; readonly name: string };

/** Whoever makes a request: everything it proved to be; nothing at all for an anonymous one. */
export type Client = { readonly principals: readonly Principal[] };

export const ANONYMOUS: Client = { principals: [] };

/** `anyone`, all of a kind (`user:*`) or one of it (`user:alice`). */
const WHO = /^(?:anyone|([a-z][a-z0-9-]{0,30}):([^\p{Cc}]{1,255}))$/u;

/** The kind that a rule's entry names, `anyone` too; undefined for what is no such entry. */
export function kindOfWho(who: string): string | undefined {
  const found = WHO.exec(who);
  return found === null ? undefined : (found[1] ?? 'anyone');
}

/** Whether an entry of a rule means a client. Names are compared letter by letter. */
export function isMeant(who: string, { principals }: Client): boolean {
  if (who === 'anyone') return true;
  return principals.some(({ kind, name }) => who === `${kind}:*` || who === `${kind}:${name}`);
}

/** Whether a name can be one: bounded, and without what would confuse a log. */
export function isPrincipalName(name: unknown): name is string {
  // A star means all of a kind.
  return (
    typeof name === 'string' &&
    name !== '*' &&
    name.length > 0 &&
    name.length <= MAX_NAME &&
    !/\p{Cc}/u.test(name)
  );
}

/** For logs: `user:alice`, or `anonymous`. */
export function describeClient({ principals }: Client): string {
  const names = principals.map(({ kind, name }) => `${kind}:${name}`);
  return names.length === 0 ? 'anonymous' : names.join(' ');
}
