import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import type { RegistryReference } from '../../shared/oci/reference.ts';
import { findCredentials } from '../../shared/registry/auth-file.ts';
import type { Credentials } from '../../shared/registry/authenticator.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { createTransport } from '../upstream/transport.ts';

/** How a registry is reached. */
export type RegistryAccess = {
  /** Docker or Podman auth file; the usual places are searched when absent. */
  readonly authFile?: string | undefined;
  /** Plain HTTP. A registry on loopback is always asked by plain HTTP. */
  readonly insecure?: boolean | undefined;
};

/** Opens a repository of a registry with the credentials that the auth files hold for it. */
export async function openRegistry(
  ref: RegistryReference,
  access: RegistryAccess,
): Promise<{ store: Repository; close(): Promise<void> }> {
  const credentials = await credentialsFor(ref, access.authFile);
  const { transport, close } = createTransport();
  const baseUrl = registryUrl(ref.registry, access.insecure ?? false);
  return {
    store: new Repository({ transport, baseUrl, repository: ref.repository, credentials }),
    close,
  };
}

/** Origin of a registry. Docker Hub answers under another name than its references carry. */
export function registryUrl(registry: string, insecure: boolean): URL {
  const host = registry === 'docker.io' ? 'registry-1.docker.io' : registry;
  const isLoopback = /^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/.test(host);
  return new URL(`${insecure || isLoopback ? 'http' : 'https'}://${host}`);
}

/**
 * Looks for credentials where Podman and Docker keep them: the file given or named by
 * REGISTRY_AUTH_FILE alone, or else each of the usual places. Throws CONFIG_INVALID for a file that
 * was named and cannot be read.
 */
async function credentialsFor(
  ref: RegistryReference,
  authFile: string | undefined,
): Promise<Credentials | undefined> {
  const named = authFile ?? process.env.REGISTRY_AUTH_FILE;
  for (const path of named === undefined ? usualAuthFiles() : [named]) {
    const text = await readAuthFile(path, named !== undefined);
    if (text === undefined) continue;
    const found = findCredentials(text, ref.registry, ref.repository);
    if (found !== undefined) return found;
  }
  return undefined;
}

function usualAuthFiles(): string[] {
  const { XDG_RUNTIME_DIR, XDG_CONFIG_HOME, DOCKER_CONFIG } = process.env;
  const uid = process.getuid?.() ?? 0;
  return [
    XDG_RUNTIME_DIR === undefined
      ? `/run/containers/${uid}/auth.json`
      : join(XDG_RUNTIME_DIR, 'containers', 'auth.json'),
    join(XDG_CONFIG_HOME ?? join(homedir(), '.config'), 'containers', 'auth.json'),
    join(DOCKER_CONFIG ?? join(homedir(), '.docker'), 'config.json'),
  ];
}

async function readAuthFile(path: string, required: boolean): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (!required) return undefined;
    throw new SnapgateError('CONFIG_INVALID', 'the auth file cannot be read', {
      where: path,
      hint: 'Correct --authfile or REGISTRY_AUTH_FILE.',
      cause,
    });
  }
}
