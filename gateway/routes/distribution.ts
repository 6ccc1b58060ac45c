import { Hono } from 'hono';
import { SnapgateError } from '../../shared/errors.ts';
import { isRepositoryName } from '../../shared/oci/reference.ts';
import { requestHeaders } from '../upstream/headers.ts';
import type { RegistryScope } from '../upstream/registry-login.ts';
import { authorize, greet, isAllowed } from './authorize.ts';
import {
  type DistributionPath,
  formatDistributionPath,
  METHODS,
  parseDistributionPath,
  scopeOf,
  wishOf,
} from './distribution-path.ts';
import {
  clientSignal,
  type GatewayContext,
  type GatewayEnv,
  incomingOf,
  requestBody,
  requestTarget,
  sendAnswer,
  takesDirectBody,
} from './exchange.ts';
import { deleteManifest, getManifest, putManifest } from './manifests.ts';
import { clientHeaders, type DistributionRoutes, type Exchange, passOn } from './pass-on.ts';
import { getReferrers } from './referrers.ts';
import { getTags } from './tags.ts';

/** The OCI distribution API 1.1, passed on to the registry. */
export function distributionRoutes(deps: DistributionRoutes): Hono<GatewayEnv> {
  const app = new Hono<GatewayEnv>();
  app.all('/v2', (c) => handle(c, deps));
  app.all('/v2/*', (c) => handle(c, deps));
  app.on(['GET', 'POST'], '/_snapgate/token/:sealed', (c) => askToken(c, deps));
  return app;
}

async function handle(c: GatewayContext, deps: DistributionRoutes): Promise<Response> {
  const { path: text, query } = requestTarget(c);
  const path = parseDistributionPath(text);
  const notes = c.get('notes');
  if (path === undefined) {
    notes.route = 'unknown';
    throw new SnapgateError('NAME_UNKNOWN', 'no such path in the distribution API');
  }
  notes.route = path.kind;
  if ('name' in path) notes.repository = path.name;
  const allowed = METHODS[path.kind];
  if (!allowed.includes(c.req.method)) {
    c.header('Allow', allowed.join(', '));
    throw new SnapgateError('UNSUPPORTED', `${c.req.method} is not supported here`, {
      hint: `Supported: ${allowed.join(', ')}.`,
    });
  }
  const wish = wishOf(path, c.req.method);
  if (wish !== undefined) await authorize(c, deps, wish);
  else if (deps.access !== undefined) return greet(c, deps);
  const url = targetUrl(path, path.kind === 'uploads' ? checkMount(c, query, deps) : query, deps);
  return route(path, exchange(c, deps, url, wish && scopeOf(wish)));
}

/**
 * A blob is mounted only out of a repository that the client may read: the registry would ask the
 * gateway's credentials, not the client's. Without it the client sends the blob.
 */
function checkMount(c: GatewayContext, query: string, deps: DistributionRoutes): string {
  if (deps.access === undefined) return query;
  const parameters = new URLSearchParams(query);
  const [from, ...others] = parameters.getAll('from');
  const isOne = from !== undefined && others.length === 0 && isRepositoryName(from);
  if (isOne && isAllowed(c, deps, { action: 'pull', repository: from })) return query;
  if (!parameters.has('mount') && !parameters.has('from')) return query;
  parameters.delete('mount');
  parameters.delete('from');
  const rest = parameters.toString();
  return rest === '' ? '' : `?${rest}`;
}

function exchange(
  c: GatewayContext,
  deps: DistributionRoutes,
  url: URL,
  scope?: RegistryScope,
): Exchange {
  const headers = requestHeaders(incomingOf(c).headers);
  const body = hasBody(c.req.method) ? requestBody(c) : undefined;
  if (body === undefined) delete headers['content-length'];
  return { c, deps, url, headers, body, signal: clientSignal(c), scope };
}

function hasBody(method: string): boolean {
  return method === 'POST' || method === 'PUT' || method === 'PATCH';
}

function targetUrl(path: DistributionPath, query: string, deps: DistributionRoutes): URL {
  if (path.kind !== 'upload') return deps.upstream.url(`${formatDistributionPath(path)}${query}`);
  const url = deps.addresses.uploadUrl(path.name, path.session, query);
  if (url !== undefined) return url;
  throw new SnapgateError('BLOB_UPLOAD_UNKNOWN', 'no such upload', {
    where: path.name,
    hint: 'Start the upload again.',
  });
}

async function route(path: DistributionPath, call: Exchange): Promise<Response> {
  const { method } = call.c.req;
  if (path.kind === 'tags') return getTags(path.name, call);
  if (path.kind === 'referrers') return getReferrers(path.name, path.digest, call);
  if (path.kind === 'manifest') {
    if (method === 'PUT') return putManifest(path.name, path.reference, call);
    if (method === 'GET' || (method === 'HEAD' && call.deps.gate !== undefined)) {
      return getManifest(path.name, path.reference, call);
    }
    if (method === 'DELETE') return deleteManifest(path.name, path.reference, call);
  }
  // A push asks whether a blob is there before anything could name it.
  if (path.kind === 'blob' && method === 'GET') call.deps.gate?.checkBlob(path.name, path.digest);
  const direct = path.kind === 'blob' && takesDirectBody(call.c);
  const answer = await passOn(call, direct);
  const headers = clientHeaders(answer, 'name' in path ? path.name : undefined, call);
  const isBlob = path.kind === 'blob' && method !== 'DELETE' && answer.status < 300;
  // An object store that a redirect led to does not know this header.
  if (isBlob) headers['docker-content-digest'] ??= path.digest;
  return sendAnswer(call, answer, headers);
}

/** The token service on the registry's own origin, which clients cannot reach themselves. */
async function askToken(c: GatewayContext, deps: DistributionRoutes): Promise<Response> {
  c.get('notes').route = 'token';
  const url = deps.addresses.tokenUrl(c.req.param('sealed') ?? '', requestTarget(c).query);
  if (url === undefined) {
    throw new SnapgateError('DENIED', 'this token service was not named by the gateway', {
      hint: 'Ask for the image again; the gateway may have been restarted.',
    });
  }
  const call = exchange(c, deps, url);
  const answer = await passOn(call);
  return sendAnswer(call, answer, clientHeaders(answer, undefined, call));
}
