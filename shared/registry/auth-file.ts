import * as v from 'valibot';
import { SnapgateError } from '../errors.ts';
import type { Credentials } from './authenticator.ts';

const fileSchema = v.object({
  auths: v.optional(
    v.record(
      v.string(),
      v.object({
        auth: v.optional(v.string()),
        username: v.optional(v.string()),
        password: v.optional(v.string()),
        identitytoken: v.optional(v.string()),
      }),
    ),
  ),
});

type Entry = NonNullable<v.InferOutput<typeof fileSchema>['auths']>[string];

/** `https://host/v1/` and `host` are the same key to Docker. */
function normaliseKey(key: string): string {
  return key
    .replace(/^https?:\/\//, '')
    .replace(/\/v[12]\/?$/, '')
    .replace(/\/+$/, '');
}

function credentialsOf(entry: Entry): Credentials | undefined {
  if (entry.identitytoken) return { kind: 'identity-token', token: entry.identitytoken };
  if (entry.username !== undefined && entry.password !== undefined) {
    return { kind: 'basic', username: entry.username, password: entry.password };
  }
  if (!entry.auth) return undefined;
  const text = Buffer.from(entry.auth, 'base64').toString('utf8');
  const colon = text.indexOf(':');
  if (colon < 0) return undefined;
  return { kind: 'basic', username: text.slice(0, colon), password: text.slice(colon + 1) };
}

/**
 * Finds the credentials for a repository in the text of a Docker or Podman auth file
 * (containers-auth.json(5)): the entry of `host/namespace/repository`, then of each namespace above
 * it, then of the host. Credential helpers are not run. Throws CONFIG_INVALID.
 */
export function findCredentials(
  fileText: string,
  registry: string,
  repository: string,
): Credentials | undefined {
  let json: unknown;
  try {
    json = JSON.parse(fileText);
  } catch (cause) {
    // The parser's own message may quote the file, and with it a secret.
    throw new SnapgateError('CONFIG_INVALID', 'auth file is not JSON', {
      cause: (cause as Error).name,
    });
  }
  const parsed = v.safeParse(fileSchema, json);
  if (!parsed.success) {
    throw new SnapgateError(
      'CONFIG_INVALID',
      'auth file is not in the form of containers-auth.json',
    );
  }
  const byKey = new Map(
    Object.entries(parsed.output.auths ?? {}).map(([key, entry]) => [normaliseKey(key), entry]),
  );
  const names = registry === 'docker.io' ? ['docker.io', 'index.docker.io'] : [registry];
  for (const name of names) {
    for (let key = `${name}/${repository}`; ; key = key.slice(0, key.lastIndexOf('/'))) {
      const entry = byKey.get(key);
      const found = entry === undefined ? undefined : credentialsOf(entry);
      if (found !== undefined) return found;
      if (key === name) break;
    }
  }
  return undefined;
}
