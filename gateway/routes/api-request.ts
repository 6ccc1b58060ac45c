import * as v from 'valibot';
import { SnapgateError } from '../../shared/errors.ts';
import { isRepositoryName } from '../../shared/oci/reference.ts';
import { readBody as readBytes } from '../../shared/registry/transport.ts';
import type { RepositoryReader } from '../plan/repository-facts.ts';
import { authorize, type WithAccess } from './authorize.ts';
import type { GatewayContext } from './exchange.ts';

/** Largest request body read, in bytes. */
const MAX_BODY_BYTES = 64 * 1024;

/**
 * The registry as the client of one request may see it. `open` asks for a manifest with the client's
 * own credentials; what the registry refuses is answered as the registry answered it, so that a
 * client learns no more here than there, and its token flow goes on. With no tag or digest it is the
 * list of tags that must be readable.
 */
export type ClientAccess = {
  open(
    request: Request,
    repository: string,
    tagOrDigest: string | undefined,
  ): Promise<{ readonly reader: RepositoryReader } | { readonly refusal: Response }>;
};

/** What it takes to know what a client may read. */
export type WithClientAccess = WithAccess & { readonly clientAccess: ClientAccess };

/** The repository as this client may see it. Throws UNAUTHORIZED, DENIED. */
export async function openFor(
  c: GatewayContext,
  deps: WithClientAccess,
  repository: string,
  tagOrDigest: string | undefined,
): ReturnType<ClientAccess['open']> {
  await authorize(c, deps, { action: 'pull', repository });
  return deps.clientAccess.open(c.req.raw, repository, tagOrDigest);
}

/** The repository that a path names. Throws NAME_INVALID. */
export function repositoryOf(name: string | undefined): string {
  if (name !== undefined && isRepositoryName(name)) return name;
  throw new SnapgateError('NAME_INVALID', `not a repository name: ${String(name).slice(0, 255)}`);
}

/** The client's address; none where there is no connection to ask, as in tests. */
export function addressOf(c: GatewayContext): string {
  const { incoming } = (c.env ?? {}) as { incoming?: { socket?: { remoteAddress?: string } } };
  return incoming?.socket?.remoteAddress ?? '';
}

/** Reads a bounded JSON body. Throws LIMIT_EXCEEDED, USAGE. */
export async function readBody<T>(
  c: GatewayContext,
  schema: v.GenericSchema<unknown, T>,
): Promise<T> {
  const { bytes, truncated } = await readBytes(c.req.raw.body ?? [], MAX_BODY_BYTES);
  if (truncated) {
    throw new SnapgateError('LIMIT_EXCEEDED', `the request is over ${MAX_BODY_BYTES} bytes`);
  }
  let json: unknown;
  try {
    json = JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch (cause) {
    throw new SnapgateError('USAGE', 'the request is not JSON', { cause });
  }
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new SnapgateError(
    'USAGE',
    `the request: ${v.getDotPath(issue) ?? '(root)'}: ${issue.message}`,
  );
}
