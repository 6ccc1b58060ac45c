import { createHash, type Hash } from 'node:crypto';
import { type Digest, digestFromHex, digestHex, isDigest, sha256 } from '../digest.ts';
import { type ErrorCode, SnapgateError } from '../errors.ts';
import type { BlobReadOptions, ContentStore, StoredManifest } from '../oci/content.ts';
import {
  type Descriptor,
  type Index,
  MAX_MANIFEST_BYTES,
  manifestMediaType,
  parseIndex,
  parseManifest,
} from '../oci/manifest.ts';
import { isIndexType, MANIFEST_ACCEPT, OCI_INDEX } from '../oci/media-types.ts';
import { type RepositoryOptions, RepositoryRequests } from './repository-requests.ts';
import { discardBody, type HttpResponse, readBody } from './transport.ts';

/**
 * One repository of a registry over the OCI distribution API 1.1. What a blob or a manifest is said to
 * be (digest, size) is checked while it is read.
 */
export class Repository implements ContentStore {
  readonly name: string;
  readonly #options: RepositoryOptions;
  readonly #requests: RepositoryRequests;

  constructor(options: RepositoryOptions) {
    this.#options = options;
    this.name = `${options.baseUrl.host}/${options.repository}`;
    this.#requests = new RepositoryRequests(options);
  }

  async getManifest(tagOrDigest: string, signal?: AbortSignal): Promise<StoredManifest> {
    const where = `${this.name}${isDigest(tagOrDigest) ? '@' : ':'}${tagOrDigest}`;
    const response = await this.#requests.read({
      method: 'GET',
      url: this.#requests.url(`manifests/${tagOrDigest}`),
      headers: { accept: MANIFEST_ACCEPT.join(', ') },
      unknown: 'MANIFEST_UNKNOWN',
      signal,
    });
    const { bytes, truncated } = await readBody(response.body, MAX_MANIFEST_BYTES);
    if (truncated) {
      throw new SnapgateError('LIMIT_EXCEEDED', 'manifest is larger than 4 MiB', { where });
    }
    const digest = sha256(bytes);
    if (isDigest(tagOrDigest) && digest !== tagOrDigest) {
      throw new SnapgateError('DIGEST_INVALID', `manifest is ${digest}`, {
        where,
        hint: 'The registry or something before it changed the manifest. Try again; report it if it stays.',
      });
    }
    return {
      digest,
      bytes,
      mediaType: manifestMediaType(bytes, response.headers['content-type'] ?? ''),
    };
  }

  async *openBlob(
    blob: Pick<Descriptor, 'digest' | 'size'>,
    options: BlobReadOptions = {},
  ): AsyncGenerator<Uint8Array> {
    const offset = options.offset ?? 0;
    if (offset >= blob.size && offset > 0) return;
    const response = await this.#requests.read({
      method: 'GET',
      url: this.#requests.url(`blobs/${blob.digest}`),
      headers: offset > 0 ? { range: `bytes=${offset}-` } : {},
      unknown: 'BLOB_UNKNOWN',
      signal: options.signal,
    });
    const skip = response.status === 206 ? rangeSkip(response, offset, this.name) : offset;
    yield* verified(response.body, blob, offset, skip, `${this.name}@${blob.digest}`);
  }

  async hasBlob(digest: Digest): Promise<boolean> {
    return this.#exists('HEAD', `blobs/${digest}`, 'BLOB_UNKNOWN');
  }

  /** Whether the repository has a manifest under this tag or digest. */
  async hasManifest(tagOrDigest: string): Promise<boolean> {
    return this.#exists('HEAD', `manifests/${tagOrDigest}`, 'MANIFEST_UNKNOWN');
  }

  /** Asks for a tag's digest without its manifest: what the registry says, or undefined if nothing. */
  async tagDigest(tag: string, signal?: AbortSignal): Promise<Digest | undefined> {
    const response = await this.#requests.read({
      method: 'HEAD',
      url: this.#requests.url(`manifests/${tag}`),
      headers: { accept: MANIFEST_ACCEPT.join(', ') },
      unknown: 'MANIFEST_UNKNOWN',
      signal,
    });
    await discardBody(response.body);
    const digest = response.headers['docker-content-digest'] ?? '';
    return isDigest(digest) ? digest : undefined;
  }

  /**
   * Calls an extension of the distribution API at `/v2/<name>/<path>`, by POST when there is a JSON
   * text to send. The call must be one that can be made twice. Throws UNSUPPORTED for a 404.
   */
  async callExtension(path: string, json?: string, signal?: AbortSignal): Promise<HttpResponse> {
    const url = this.#requests.url(path);
    if (json === undefined)
      return this.#requests.read({ method: 'GET', url, unknown: 'UNSUPPORTED', signal });
    const body = Buffer.from(json);
    const headers = {
      'content-type': 'application/json',
      'content-length': String(body.length),
    };
    return this.#requests.read({
      method: 'POST',
      url,
      headers,
      body,
      unknown: 'UNSUPPORTED',
      signal,
    });
  }

  async putBlob(
    blob: Pick<Descriptor, 'digest' | 'size'>,
    body: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    if (await this.hasBlob(blob.digest)) return;
    const start = await this.#requests.write({
      method: 'POST',
      url: this.#requests.url('blobs/uploads/'),
      headers: { 'content-length': '0' },
      unknown: 'NAME_UNKNOWN',
    });
    await discardBody(start.body);
    const location = start.headers.location;
    if (location === undefined) {
      throw new SnapgateError('UPSTREAM_FAILED', 'the registry gave no upload location', {
        where: this.name,
      });
    }
    const url = new URL(location, this.#options.baseUrl);
    url.searchParams.set('digest', blob.digest);
    const headers = {
      'content-type': 'application/octet-stream',
      'content-length': String(blob.size),
    };
    const done = await this.#requests.write({
      method: 'PUT',
      url,
      headers,
      body,
      unknown: 'BLOB_UPLOAD_UNKNOWN',
    });
    await discardBody(done.body);
  }

  async putManifest(manifest: StoredManifest, tag?: string): Promise<void> {
    const response = await this.#putManifestBytes(manifest, tag ?? manifest.digest);
    if (isIndexType(manifest.mediaType)) return;
    const { subject, artifactType, annotations, config } = parseManifest(manifest.bytes);
    if (subject === undefined || response.headers['oci-subject'] !== undefined) return;
    await this.addReferrer(subject.digest, {
      mediaType: manifest.mediaType,
      digest: manifest.digest,
      size: manifest.bytes.length,
      artifactType: artifactType ?? config.mediaType,
      ...(annotations === undefined ? {} : { annotations }),
    });
  }

  /** Deletes a manifest by digest, or a tag where the registry can. */
  async deleteManifest(tagOrDigest: string): Promise<void> {
    const response = await this.#requests.write({
      method: 'DELETE',
      url: this.#requests.url(`manifests/${tagOrDigest}`),
      scope: 'pull,push,delete',
      unknown: 'MANIFEST_UNKNOWN',
    });
    await discardBody(response.body);
  }

  async listTags(): Promise<string[]> {
    const tags: string[] = [];
    for await (const page of this.#requests.pages('tags/list?n=1000', 'NAME_UNKNOWN')) {
      const list = (page as { tags?: unknown } | null)?.tags;
      if (Array.isArray(list)) tags.push(...list.filter((tag) => typeof tag === 'string'));
    }
    return tags;
  }

  async listReferrers(subject: Digest, signal?: AbortSignal): Promise<Descriptor[]> {
    const found: Descriptor[] = [];
    try {
      for await (const page of this.#requests.pages(
        `referrers/${subject}`,
        'MANIFEST_UNKNOWN',
        signal,
      )) {
        found.push(...parseIndex(Buffer.from(JSON.stringify(page))).manifests);
      }
      return found;
    } catch (thrown) {
      if (!isUnknown(thrown)) throw thrown;
    }
    return (await this.#fallbackIndex(subject, signal))?.manifests ?? [];
  }

  /**
   * The referrers that stand under the tag `sha256-<hex>` (distribution specification 1.1, "Referrers
   * Tag Schema"); undefined when there are none.
   */
  async #fallbackIndex(subject: Digest, signal?: AbortSignal): Promise<Index | undefined> {
    try {
      const manifest = await this.getManifest(fallbackTag(subject), signal);
      return isIndexType(manifest.mediaType) ? parseIndex(manifest.bytes) : undefined;
    } catch (thrown) {
      if (isUnknown(thrown)) return undefined;
      throw thrown;
    }
  }

  /**
   * Adds an entry to the referrers under the fallback tag, for registries without the referrers API.
   * Registries ignore If-Match, so writers race: write, read back, and merge again when lost.
   */
  async addReferrer(subject: Digest, entry: Descriptor): Promise<void> {
    for (let attempt = 0; attempt < 8; attempt += 1) {
      const index = await this.#fallbackIndex(subject);
      const manifests = index?.manifests ?? [];
      if (manifests.some((known) => known.digest === entry.digest)) return;
      const merged = {
        ...index,
        schemaVersion: 2,
        mediaType: OCI_INDEX,
        manifests: [...manifests, entry],
      };
      const bytes = Buffer.from(JSON.stringify(merged));
      await this.#putManifestBytes(
        { digest: sha256(bytes), mediaType: OCI_INDEX, bytes },
        fallbackTag(subject),
      );
      await this.#requests.pause(Math.random() * 50 * attempt);
    }
    const last = await this.#fallbackIndex(subject);
    if (last?.manifests.some((known) => known.digest === entry.digest)) return;
    throw new SnapgateError(
      'UPSTREAM_FAILED',
      'another writer keeps replacing the list of referrers',
      {
        where: `${this.name}:${fallbackTag(subject)}`,
        hint: 'Run it again when nobody else signs this image.',
      },
    );
  }

  async #putManifestBytes(manifest: StoredManifest, reference: string): Promise<HttpResponse> {
    const response = await this.#requests.write({
      method: 'PUT',
      url: this.#requests.url(`manifests/${reference}`),
      headers: {
        'content-type': manifest.mediaType,
        'content-length': String(manifest.bytes.length),
      },
      body: manifest.bytes,
      unknown: 'NAME_UNKNOWN',
    });
    await discardBody(response.body);
    return response;
  }

  async #exists(method: string, path: string, unknown: ErrorCode): Promise<boolean> {
    try {
      const headers = { accept: MANIFEST_ACCEPT.join(', ') };
      const response = await this.#requests.read({
        method,
        url: this.#requests.url(path),
        headers,
        unknown,
      });
      await discardBody(response.body);
      return true;
    } catch (thrown) {
      if (isUnknown(thrown)) return false;
      throw thrown;
    }
  }
}

/** The tag under which referrers stand in a registry without the referrers API. */
export function fallbackTag(subject: Digest): string {
  return `sha256-${digestHex(subject)}`;
}

function isUnknown(thrown: unknown): boolean {
  return thrown instanceof SnapgateError && thrown.httpStatus === 404;
}

/** How many bytes of a partial answer come before `offset`. */
function rangeSkip(response: HttpResponse, offset: number, where: string): number {
  const start = /^bytes (\d+)-/.exec(response.headers['content-range'] ?? '')?.[1];
  if (start !== undefined && Number(start) <= offset) return offset - Number(start);
  throw new SnapgateError('UPSTREAM_FAILED', `asked for bytes from ${offset}, got another range`, {
    where,
  });
}

/** Yields the bytes from `offset` on, after dropping `skip`; checks size, and the digest where it can. */
async function* verified(
  body: AsyncIterable<Uint8Array>,
  blob: Pick<Descriptor, 'digest' | 'size'>,
  offset: number,
  skip: number,
  where: string,
): AsyncGenerator<Uint8Array> {
  const hash: Hash | undefined = offset === 0 ? createHash('sha256') : undefined;
  let toSkip = skip;
  let position = offset;
  for await (const chunk of body) {
    const dropped = Math.min(toSkip, chunk.length);
    toSkip -= dropped;
    const bytes = chunk.subarray(dropped);
    if (bytes.length === 0) continue;
    position += bytes.length;
    if (position > blob.size) {
      throw new SnapgateError(
        'SIZE_INVALID',
        `blob is longer than the ${blob.size} bytes it should have`,
        { where },
      );
    }
    hash?.update(bytes);
    yield bytes;
  }
  if (position !== blob.size) {
    throw new SnapgateError('SIZE_INVALID', `blob ended after ${position} of ${blob.size} bytes`, {
      where,
      hint: 'The connection broke or the blob is damaged. Try again.',
    });
  }
  if (hash !== undefined && digestFromHex(hash.digest('hex')) !== blob.digest) {
    throw new SnapgateError('DIGEST_INVALID', 'blob does not have its digest', { where });
  }
}
