import type { Server } from 'node:https';
import { createSecureContext } from 'node:tls';
import { toSnapgateError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import type { GatewayConfig } from './config.ts';
import { followFiles } from './follow-files.ts';
import { readConfigured } from './read-text.ts';

type TlsConfig = NonNullable<GatewayConfig['listen']['tls']>;

/** What a server that speaks TLS is made with. */
export type TlsOptions = {
  readonly cert: string;
  readonly key: string;
  /** Authorities of clients' certificates. */
  readonly ca?: string;
  readonly requestCert?: boolean;
  /** Whether who shows no certificate of theirs is not served. */
  readonly rejectUnauthorized?: boolean;
};

/** Reads certificate and key, and whose certificates clients must have. Throws CONFIG_INVALID. */
export async function readTls(config: TlsConfig): Promise<TlsOptions> {
  const { certificate, key, clientCa, clientCertificates } = config;
  const own = {
    cert: await readConfigured(certificate, 'listen.tls.certificate'),
    key: await readConfigured(key, 'listen.tls.key'),
  };
  if (clientCa === undefined) return own;
  const ca = await readConfigured(clientCa, 'listen.tls.clientCa');
  const rejectUnauthorized = clientCertificates === 'required';
  return { ...own, ca, requestCert: true, rejectUnauthorized };
}

/**
 * Takes new certificates as soon as their files change, for connections from then on. Files that do
 * not fit each other, as between two writes, change nothing. Gives what ends it.
 */
export function followTls(server: Server, config: TlsConfig, log: Log): () => void {
  const files = [config.certificate, config.key, config.clientCa ?? []].flat();
  const reload = async () => {
    try {
      const options = await readTls(config);
      createSecureContext(options);
      server.setSecureContext(options);
      log('info', 'certificate reloaded', { certificate: config.certificate });
    } catch (thrown) {
      const { code, message } = toSnapgateError(thrown);
      log('warn', 'certificate not reloaded', {
        certificate: config.certificate,
        code,
        reason: message,
      });
    }
  };
  return followFiles(files, reload);
}
