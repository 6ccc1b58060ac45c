import { SnapgateError } from '../../shared/errors.ts';
import { isRepositoryName, isTag } from '../../shared/oci/reference.ts';
import type { Wish } from '../access/access-rules.ts';
import type { RegistryScope } from '../upstream/registry-login.ts';

/** What a path of the OCI distribution API 1.1 means (specification, "Endpoints"). */
export type DistributionPath =
  | { readonly kind: 'base' | 'catalog' }
  | { readonly kind: 'tags' | 'uploads'; readonly name: string }
  /** `reference` is a tag or digest. */
  | { readonly kind: 'manifest'; readonly name: string; readonly reference: string }
  | { readonly kind: 'blob' | 'referrers'; readonly name: string; readonly digest: string }
  /** `session` is what the registry put after `uploads/`. */
  | { readonly kind: 'upload'; readonly name: string; readonly session: string };

/** Methods of each kind of path. */
export const METHODS: Readonly<Record<DistributionPath['kind'], readonly string[]>> = {
  base: ['GET', 'HEAD'],
  catalog: ['GET', 'HEAD'],
  tags: ['GET', 'HEAD'],
  manifest: ['GET', 'HEAD', 'PUT', 'DELETE'],
  blob: ['GET', 'HEAD', 'DELETE'],
  uploads: ['POST'],
  upload: ['GET', 'HEAD', 'PATCH', 'PUT', 'DELETE'],
  referrers: ['GET', 'HEAD'],
};

/** A digest of any algorithm (OCI image specification, "Digests"); the registry knows which it takes. */
const DIGEST = /^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]{1,256}$/;
const SESSION = /^[A-Za-z0-9._~!$&'()*+,;=:@%/-]{1,8192}$/;

const SHAPES: readonly (readonly [RegExp, (name: string, rest: string) => DistributionPath])[] = [
  [/^(.+)\/tags\/(list)$/, (name) => ({ kind: 'tags', name })],
  [/^(.+)\/blobs\/(uploads)\/?$/, (name) => ({ kind: 'uploads', name })],
  [/^(.+)\/blobs\/uploads\/(.+)$/, upload],
  [/^(.+)\/blobs\/([^/]+)$/, (name, digest) => ({ kind: 'blob', name, digest: asDigest(digest) })],
  [/^(.+)\/manifests\/([^/]+)$/, manifest],
  [
    /^(.+)\/referrers\/([^/]+)$/,
    (name, digest) => ({ kind: 'referrers', name, digest: asDigest(digest) }),
  ],
];

/**
 * Parses the path of a request, without its query. Undefined for what is no path of this API. Throws
 * NAME_INVALID, DIGEST_INVALID, MANIFEST_UNKNOWN, BLOB_UPLOAD_UNKNOWN.
 */
export function parseDistributionPath(path: string): DistributionPath | undefined {
  if (path === '/v2/' || path === '/v2') return { kind: 'base' };
  if (!path.startsWith('/v2/')) return undefined;
  const rest = path.slice('/v2/'.length);
  if (rest === '_catalog') return { kind: 'catalog' };
  for (const [shape, build] of SHAPES) {
    const found = shape.exec(rest);
    if (found === null) continue;
    const [, name = '', last = ''] = found;
    if (!isRepositoryName(name)) {
      throw new SnapgateError('NAME_INVALID', `not a repository name: ${name.slice(0, 255)}`);
    }
    return build(name, last);
  }
  return undefined;
}

/** The path of the registry that a parsed path stands for. */
export function formatDistributionPath(path: DistributionPath): string {
  switch (path.kind) {
    case 'base':
      return '/v2/';
    case 'catalog':
      return '/v2/_catalog';
    case 'tags':
      return `/v2/${path.name}/tags/list`;
    case 'manifest':
      return `/v2/${path.name}/manifests/${path.reference}`;
    case 'blob':
      return `/v2/${path.name}/blobs/${path.digest}`;
    case 'uploads':
      return `/v2/${path.name}/blobs/uploads/`;
    case 'upload':
      return `/v2/${path.name}/blobs/uploads/${path.session}`;
    case 'referrers':
      return `/v2/${path.name}/referrers/${path.digest}`;
  }
}

/** What a request wants to do; undefined for the base, which only tells whether one is let in. */
export function wishOf(path: DistributionPath, method: string): Wish | undefined {
  if (path.kind === 'base') return undefined;
  if (!('name' in path)) return { action: 'catalog' };
  const repository = path.name;
  if (path.kind === 'uploads' || path.kind === 'upload') return { action: 'push', repository };
  if (method === 'DELETE') return { action: 'delete', repository };
  return { action: method === 'PUT' ? 'push' : 'pull', repository };
}

/** What a registry's token service calls a wish. */
export function scopeOf(wish: Wish): RegistryScope {
  if (!('repository' in wish)) return { repository: '', text: 'registry:catalog:*' };
  const { repository, action } = wish;
  const actions = { push: 'pull,push', delete: 'pull,push,delete' } as Record<string, string>;
  return { repository, text: `repository:${repository}:${actions[action] ?? 'pull'}` };
}

function manifest(name: string, text: string): DistributionPath {
  const reference = decode(text);
  if (isTag(reference) || DIGEST.test(reference)) return { kind: 'manifest', name, reference };
  const shown = reference.slice(0, 128);
  throw new SnapgateError('MANIFEST_UNKNOWN', `not a tag or digest: ${shown}`, { where: name });
}

function upload(name: string, session: string): DistributionPath {
  const parts = decode(session).split('/');
  if (SESSION.test(session) && !parts.includes('..') && !parts.includes('.')) {
    return { kind: 'upload', name, session };
  }
  throw new SnapgateError('BLOB_UPLOAD_UNKNOWN', 'no such upload', { where: name });
}

function asDigest(text: string): string {
  const digest = decode(text);
  if (DIGEST.test(digest)) return digest;
  throw new SnapgateError('DIGEST_INVALID', `not a digest: ${digest.slice(0, 128)}`);
}

/** Some clients write the colon of a digest as `%3A`. */
function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
