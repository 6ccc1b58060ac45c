import { getCACertificates } from 'node:tls';
import { toSnapgateError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import type { Transport } from '../../shared/registry/transport.ts';
import { Access } from '../access/access.ts';
import { AccessRules } from '../access/access-rules.ts';
import { BcryptThread } from '../access/bcrypt.ts';
import { parseHtpasswd } from '../access/htpasswd.ts';
import { OwnTokens } from '../access/own-tokens.ts';
import { Passwords } from '../access/passwords.ts';
import { type TokenIssuer, TokenIssuers } from '../access/token-issuers.ts';
import { createTransport } from '../upstream/transport.ts';
import type { AccessConfig } from './access-config.ts';
import { followFiles } from './follow-files.ts';
import { readConfigured } from './read-text.ts';

/** Access as it was configured, and what ends its thread and connections. */
export type OpenedAccess = { readonly access: Access; close(): Promise<void> };

/** Prepares who may use the gateway. Throws CONFIG_INVALID. */
export async function openAccess(config: AccessConfig, log: Log): Promise<OpenedAccess> {
  const { rules, catalog, metrics, tuf, oidc, htpasswd, tokenMinutes } = config;
  const thread = new BcryptThread();
  const passwords = htpasswd === undefined ? undefined : await readUsers(htpasswd, thread);
  const unfollow =
    htpasswd && passwords && followFiles([htpasswd], () => reload(htpasswd, passwords, log));
  const issuers = await openIssuers(oidc);
  const access = new Access({
    rules: new AccessRules({ rules, catalog, metrics, tuf }),
    tokens: new OwnTokens(tokenMinutes * 60),
    ...{ passwords, issuers: issuers?.issuers },
  });
  const close = async () => {
    if (unfollow) unfollow();
    await Promise.all([thread.close(), issuers?.close()]);
  };
  return { access, close };
}

async function readUsers(path: string, { compare }: BcryptThread): Promise<Passwords> {
  const users = parseHtpasswd(await readConfigured(path, 'access.htpasswd'), path);
  return new Passwords({ users, compare });
}

/** Takes new users as soon as the file changes; a file that is not good changes nothing. */
async function reload(path: string, passwords: Passwords, log: Log): Promise<void> {
  try {
    const users = parseHtpasswd(await readConfigured(path, 'access.htpasswd'), path);
    passwords.replace(users);
    log('info', 'users reloaded', { file: path, users: users.size });
  } catch (thrown) {
    const { code, message } = toSnapgateError(thrown);
    log('warn', 'users not reloaded', { file: path, code, reason: message });
  }
}

async function openIssuers(config: AccessConfig['oidc']) {
  if (config.length === 0) return undefined;
  const connections = new Map<string, ReturnType<typeof createTransport>>();
  for (const { name, ca } of config) {
    const own = ca && (await readConfigured(ca, 'access.oidc.ca'));
    connections.set(
      name,
      createTransport(own ? { ca: [...getCACertificates('default'), own] } : {}),
    );
  }
  const transportOf = ({ name }: TokenIssuer): Transport => {
    const found = connections.get(name);
    if (found === undefined) throw new Error(`no connections for ${name}`);
    return found.transport;
  };
  const close = async () => {
    await Promise.all([...connections.values()].map((one) => one.close()));
  };
  return { issuers: new TokenIssuers(config, transportOf), close };
}
