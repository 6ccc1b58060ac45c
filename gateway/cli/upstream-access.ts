import { getCACertificates } from 'node:tls';
import { findCredentials } from '../../shared/registry/auth-file.ts';
import type { Credentials } from '../../shared/registry/authenticator.ts';
import { Repository } from '../../shared/registry/repository.ts';
import type { Transport } from '../../shared/registry/transport.ts';
import type { TransportOptions } from '../upstream/transport.ts';
import type { GatewayConfig } from './config.ts';
import { readConfigured } from './read-text.ts';

/** Most repositories whose tokens are kept. */
const MAX_OPEN = 1000;

/** How the configuration wants the registry to be reached. Throws CONFIG_INVALID. */
export async function transportOptions(
  config: GatewayConfig['upstream'],
): Promise<TransportOptions> {
  const { ca } = config;
  const own = ca === undefined ? undefined : await readConfigured(ca, 'upstream.ca');
  return {
    connectTimeoutMs: config.connectTimeoutSeconds * 1000,
    stallTimeoutMs: config.stallTimeoutSeconds * 1000,
    verifyTls: !config.insecure,
    ...(own === undefined ? {} : { ca: [...getCACertificates('default'), own] }),
  };
}

/** The gateway's own credentials for a repository. */
export type FindCredentials = (repository: string) => Credentials | undefined;

/** Reads the gateway's own credentials. Throws CONFIG_INVALID. */
export async function readCredentials(config: GatewayConfig['upstream']): Promise<FindCredentials> {
  const { credentials, url } = config;
  if (credentials === undefined) return () => undefined;
  if ('authFile' in credentials) {
    const text = await readConfigured(credentials.authFile, 'upstream.credentials.authFile');
    const host = url.host === 'registry-1.docker.io' ? 'docker.io' : url.host;
    findCredentials(text, host, 'probe');
    return (repository) => findCredentials(text, host, repository);
  }
  const { username, passwordFile } = credentials;
  const text = await readConfigured(passwordFile, 'upstream.credentials.passwordFile');
  const password = text.replace(/\r?\n$/, '');
  return () => ({ kind: 'basic', username, password });
}

/** Opens repositories with the gateway's own credentials; the tokens of the last used are kept. */
export function ownRepositories(
  transport: Transport,
  baseUrl: URL,
  credentials: FindCredentials,
): (repository: string) => Repository {
  const open = new Map<string, Repository>();
  return (repository) => {
    const found =
      open.get(repository) ??
      new Repository({ transport, baseUrl, repository, credentials: credentials(repository) });
    open.delete(repository);
    open.set(repository, found);
    const oldest = open.keys().next().value;
    if (open.size > MAX_OPEN && oldest !== undefined) open.delete(oldest);
    return found;
  };
}
