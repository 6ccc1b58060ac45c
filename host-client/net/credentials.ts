import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import { findCredentials } from '../../shared/registry/auth-file.ts';
import type { Credentials } from '../../shared/registry/authenticator.ts';
import type { Config } from '../config.ts';

/**
 * The credentials for a gateway from the configured auth file, or from `/etc/snaphost/auth.json`
 * where that exists. Throws CONFIG_INVALID.
 */
export async function credentialsFor(
  config: Pick<Config, 'authFile' | 'root' | 'repository'>,
  gateway: URL,
): Promise<Credentials | undefined> {
  const file = config.authFile ?? join(config.root, 'etc/snaphost/auth.json');
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    const isMissing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    if (isMissing && config.authFile === undefined) return undefined;
    throw new SnapgateError('CONFIG_INVALID', 'the auth file cannot be read', {
      where: file,
      hint: 'Correct authFile in the configuration.',
      cause,
    });
  }
  return findCredentials(text, gateway.host, config.repository);
}
