import { type Digest, isDigest } from '../digest.ts';
import { SnapgateError } from '../errors.ts';

/** A place in a registry: `host[:port]`, the repository, and what of it is meant. */
export type RegistryReference = {
  readonly kind: 'docker';
  /** Host and port, as written. */
  readonly registry: string;
  readonly repository: string;
  readonly tag: string | undefined;
  readonly digest: Digest | undefined;
};

/** An image in an OCI layout folder or in a tar archive of one. */
export type LayoutReference = {
  readonly kind: 'oci' | 'oci-archive';
  readonly path: string;
  readonly tag: string | undefined;
};

/** Where an image is: `docker://HOST/REPO[:TAG|@DIGEST]`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`. */
export type Reference = RegistryReference | LayoutReference;

// OCI distribution specification 1.1, "Pulling manifests".
const NAME = /^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const REGISTRY = /^(\[[0-9a-fA-F:]+\]|[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?)(:[0-9]{1,5})?$/;

/** Whether a string is a repository name as the distribution specification allows it. */
export function isRepositoryName(text: string): boolean {
  return text.length <= 255 && NAME.test(text);
}

/** Whether a string is a registry's `host` or `host:port`. */
export function isRegistryHost(text: string): boolean {
  return text.length <= 255 && REGISTRY.test(text);
}

/** Whether a string is a tag as the distribution specification allows it. */
export function isTag(text: string): boolean {
  return TAG.test(text);
}

function invalid(text: string, why: string): SnapgateError {
  return new SnapgateError('REFERENCE_INVALID', `${why}: ${text}`, {
    hint: 'Write docker://HOST/REPO[:TAG|@DIGEST], oci:DIR[:TAG] or oci-archive:FILE[:TAG].',
  });
}

/**
 * Parses `HOST/REPO[:TAG][@DIGEST]`; the host is never guessed. Throws REFERENCE_INVALID.
 */
export function parseRegistryReference(text: string): RegistryReference {
  const slash = text.indexOf('/');
  if (slash <= 0) throw invalid(text, 'no registry host');
  const registry = text.slice(0, slash);
  if (!isRegistryHost(registry)) throw invalid(text, 'bad registry host');
  let rest = text.slice(slash + 1);
  let digest: Digest | undefined;
  let tag: string | undefined;
  const at = rest.indexOf('@');
  if (at >= 0) {
    const found = rest.slice(at + 1);
    if (!isDigest(found)) throw invalid(text, 'bad digest');
    digest = found;
    rest = rest.slice(0, at);
  }
  const colon = rest.indexOf(':');
  if (colon >= 0) {
    tag = rest.slice(colon + 1);
    if (!isTag(tag)) throw invalid(text, 'bad tag');
    rest = rest.slice(0, colon);
  }
  if (!isRepositoryName(rest)) throw invalid(text, 'bad repository name');
  return { kind: 'docker', registry, repository: rest, tag, digest };
}

/** Parses a reference with its transport. Throws REFERENCE_INVALID. */
export function parseReference(text: string): Reference {
  if (text.startsWith('docker://')) return parseRegistryReference(text.slice('docker://'.length));
  for (const kind of ['oci', 'oci-archive'] as const) {
    if (!text.startsWith(`${kind}:`)) continue;
    const rest = text.slice(kind.length + 1);
    // As in skopeo, the first colon ends the path.
    const colon = rest.indexOf(':');
    const path = colon < 0 ? rest : rest.slice(0, colon);
    const tag = colon < 0 ? undefined : rest.slice(colon + 1);
    if (path === '') throw invalid(text, 'no path');
    if (tag === '') throw invalid(text, 'empty tag');
    return { kind, path, tag };
  }
  throw invalid(text, 'unknown transport');
}

/** The text of a reference, as {@link parseReference} reads it. */
export function formatReference(ref: Reference): string {
  if (ref.kind !== 'docker') return `${ref.kind}:${ref.path}${ref.tag ? `:${ref.tag}` : ''}`;
  const name = `docker://${ref.registry}/${ref.repository}`;
  return `${name}${ref.tag ? `:${ref.tag}` : ''}${ref.digest ? `@${ref.digest}` : ''}`;
}
