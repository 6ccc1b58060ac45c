import { createHash, type Hash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
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
import { Authenticator, type Credentials } from './authenticator.ts';
import {
  discardBody,
  displayUrl,
  type HttpResponse,
  readBody,
  type Transport,
} from './transport.ts';

const MAX_ERROR_BODY = 16 * 1024;
const MAX_REDIRECTS = 5;
const MAX_PAGES = 1000;
const TRIES = 4;
/** A registry that asks for a longer pause than this is reported instead of waited for. */
const LONGEST_PAUSE_SECONDS = 30;

/** How a repository is reached. */
export type RepositoryOptions = {
  readonly transport: Transport;
  /** Origin of the registry: `https://host[:port]`. */
  readonly baseUrl: URL;
  readonly repository: string;
  readonly credentials?: Credentials | undefined;
  /** An Authorization header sent as it is, instead of `credentials`: for a client's own. */
  readonly authorization?: string | undefined;
  /** Pauses before another try; tests replace it. Milliseconds. */
  readonly pause?: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
};

type Call = {
  readonly method: string;
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | AsyncIterable<Uint8Array>;
  readonly signal?: AbortSignal | undefined;
  readonly scope?: 'pull' | 'pull,push' | 'pull,push,delete';
  /** What a 404 means here. */
  readonly unknown: ErrorCode;
};

/**
 * One repository of a registry over the OCI distribution API 1.1. Reads are tried again after a
 * reset, a 429 or a 5xx; writes are not. The registry's credentials go to its own origin only, also
 * after a redirect.
 */
export class Repository implements ContentStore {
  readonly name: string;
  readonly #options: RepositoryOptions;
  readonly #authenticator: Authenticator;
  readonly #pause: (milliseconds: number, signal?: AbortSignal) => Promise<void>;

  constructor(options: RepositoryOptions) {
    this.#options = options;
    this.name = `${options.baseUrl.host}/${options.repository}`;
    this.#authenticator = new Authenticator(options.transport, options.credentials);
    this.#pause = options.pause ?? ((ms, signal) => sleep(ms, undefined, signal ? { signal } : {}));
  }

  async getManifest(tagOrDigest: string, signal?: AbortSignal): Promise<StoredManifest> {
    const where = `${this.name}${isDigest(tagOrDigest) ? '@' : ':'}${tagOrDigest}`;
    const response = await this.#read({
      method: 'GET',
      url: this.#url(`manifests/${tagOrDigest}`),
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
    const response = await this.#read({
      method: 'GET',
      url: this.#url(`blobs/${blob.digest}`),
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
    const response = await this.#read({
      method: 'HEAD',
      url: this.#url(`manifests/${tag}`),
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
    const url = this.#url(path);
    if (json === undefined)
      return this.#read({ method: 'GET', url, unknown: 'UNSUPPORTED', signal });
    const body = Buffer.from(json);
    const headers = {
      'content-type': 'application/json',
      'content-length': String(body.length),
    };
    return this.#read({ method: 'POST', url, headers, body, unknown: 'UNSUPPORTED', signal });
  }

  async putBlob(
    blob: Pick<Descriptor, 'digest' | 'size'>,
    body: AsyncIterable<Uint8Array>,
  ): Promise<void> {
    if (await this.hasBlob(blob.digest)) return;
    const start = await this.#write({
      method: 'POST',
      url: this.#url('blobs/uploads/'),
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
    const done = await this.#write({
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
    const response = await this.#write({
      method: 'DELETE',
      url: this.#url(`manifests/${tagOrDigest}`),
      scope: 'pull,push,delete',
      unknown: 'MANIFEST_UNKNOWN',
    });
    await discardBody(response.body);
  }

  async listTags(): Promise<string[]> {
    const tags: string[] = [];
    for await (const page of this.#pages('tags/list?n=1000', 'NAME_UNKNOWN')) {
      const list = (page as { tags?: unknown } | null)?.tags;
      if (Array.isArray(list)) tags.push(...list.filter((tag) => typeof tag === 'string'));
    }
    return tags;
  }

  async listReferrers(subject: Digest, signal?: AbortSignal): Promise<Descriptor[]> {
    const found: Descriptor[] = [];
    try {
      for await (const page of this.#pages(`referrers/${subject}`, 'MANIFEST_UNKNOWN', signal)) {
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
      await this.#pause(Math.random() * 50 * attempt);
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
    const response = await this.#write({
      method: 'PUT',
      url: this.#url(`manifests/${reference}`),
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
      const response = await this.#read({ method, url: this.#url(path), headers, unknown });
      await discardBody(response.body);
      return true;
    } catch (thrown) {
      if (isUnknown(thrown)) return false;
      throw thrown;
    }
  }

  /** Follows the Link header of paged answers (RFC 8288), within this registry only. */
  async *#pages(path: string, unknown: ErrorCode, signal?: AbortSignal): AsyncGenerator<unknown> {
    let url: URL | undefined = this.#url(path);
    for (let page = 0; url !== undefined && page < MAX_PAGES; page += 1) {
      const response: HttpResponse = await this.#read({ method: 'GET', url, unknown, signal });
      const { bytes, truncated } = await readBody(response.body, MAX_MANIFEST_BYTES);
      if (truncated)
        throw new SnapgateError('LIMIT_EXCEEDED', 'answer too large', { where: displayUrl(url) });
      try {
        yield JSON.parse(Buffer.from(bytes).toString('utf8'));
      } catch (cause) {
        throw new SnapgateError('UPSTREAM_FAILED', 'answer is not JSON', {
          where: displayUrl(url),
          cause,
        });
      }
      const next: string | undefined = /<([^>]*)>\s*;[^,]*\brel="?next"?/.exec(
        response.headers.link ?? '',
      )?.[1];
      const following: URL | null = next === undefined ? null : URL.parse(next, url.href);
      url = following !== null && following.origin === url.origin ? following : undefined;
    }
  }

  #url(path: string): URL {
    return new URL(`/v2/${this.#options.repository}/${path}`, this.#options.baseUrl);
  }

  async #read(call: Call): Promise<HttpResponse> {
    for (let attempt = 1; ; attempt += 1) {
      let wait = 2 ** attempt * 100 * (0.5 + Math.random());
      try {
        const response = await this.#send(call);
        if (response.status < 300) return response;
        const pause = retryAfterSeconds(response);
        const again = [429, 500, 502, 503, 504].includes(response.status);
        if (!again || attempt >= TRIES || pause > LONGEST_PAUSE_SECONDS)
          throw await failure(response, call);
        await discardBody(response.body);
        wait = Math.max(wait, pause * 1000);
      } catch (thrown) {
        const lost = thrown instanceof SnapgateError && thrown.code === 'UPSTREAM_UNREACHABLE';
        if (!lost || attempt >= TRIES) throw thrown;
      }
      await this.#pause(wait, call.signal);
    }
  }

  async #write(call: Call): Promise<HttpResponse> {
    const response = await this.#send({ scope: 'pull,push', ...call });
    if (response.status < 300) return response;
    throw await failure(response, call);
  }

  /** Sends with authentication; a body that is a stream is only sent once, after the challenge. */
  async #send(call: Call): Promise<HttpResponse> {
    const scope = `repository:${this.#options.repository}:${call.scope ?? 'pull'}`;
    let known = this.#options.authorization ?? this.#authenticator.header(scope);
    for (let attempt = 0; ; attempt += 1) {
      const response = await this.#follow(call, known);
      const challenge = response.headers['www-authenticate'];
      const stuck = attempt > 0 || this.#options.authorization !== undefined;
      if (response.status !== 401 || challenge === undefined || stuck) return response;
      const streamed = call.body !== undefined && !(call.body instanceof Uint8Array);
      const answer = await this.#authenticator.answer(challenge, scope, call.signal);
      if (answer === undefined || streamed) return response;
      await discardBody(response.body);
      known = answer;
    }
  }

  async #follow(call: Call, authorization: string | undefined): Promise<HttpResponse> {
    let url = call.url;
    for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
      const own = url.origin === this.#options.baseUrl.origin;
      const headers = {
        ...call.headers,
        ...(own && authorization !== undefined ? { authorization } : {}),
      };
      const { method, body, signal } = call;
      const response = await this.#options.transport({
        method,
        url,
        headers,
        signal,
        ...(body === undefined ? {} : { body }),
      });
      const location = response.headers.location;
      const redirected = [301, 302, 303, 307, 308].includes(response.status);
      if (!redirected || location === undefined || !['GET', 'HEAD'].includes(method))
        return response;
      await discardBody(response.body);
      const next = URL.parse(location, url.href);
      if (next === null || !['http:', 'https:'].includes(next.protocol)) break;
      url = next;
    }
    throw new SnapgateError('UPSTREAM_FAILED', 'the registry redirects without end or to nowhere', {
      where: displayUrl(call.url),
    });
  }
}

/** The tag under which referrers stand in a registry without the referrers API. */
export function fallbackTag(subject: Digest): string {
  return `sha256-${digestHex(subject)}`;
}

function isUnknown(thrown: unknown): boolean {
  return thrown instanceof SnapgateError && thrown.httpStatus === 404;
}

/** Seconds of a Retry-After header (RFC 9110, section 10.2.3); 0 when there is none. */
export function retryAfterSeconds(
  response: Pick<HttpResponse, 'headers'>,
  now = Date.now(),
): number {
  const text = response.headers['retry-after'];
  if (text === undefined) return 0;
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - now) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : 0;
}

/** Turns an answer that is no success into an error, with the registry's own words as its cause. */
async function failure(response: HttpResponse, call: Call): Promise<SnapgateError> {
  const where = displayUrl(call.url);
  const { bytes } = await readBody(response.body, MAX_ERROR_BODY).catch(() => ({
    bytes: new Uint8Array(),
  }));
  const said = registryMessage(bytes);
  const message = `the registry answered ${response.status}${said === '' ? '' : `: ${said}`}`;
  switch (response.status) {
    case 401:
      return new SnapgateError('UNAUTHORIZED', message, {
        where,
        hint: 'Log in to the registry, or check the auth file.',
      });
    case 403:
      return new SnapgateError('DENIED', message, {
        where,
        hint: 'Ask for access to this repository.',
      });
    case 404:
      return new SnapgateError(call.unknown, message, { where });
    case 429: {
      const pause = Math.ceil(retryAfterSeconds(response));
      return new SnapgateError('TOOMANYREQUESTS', message, {
        where,
        hint: pause > 0 ? `Try again in ${pause} s.` : 'Try again later.',
      });
    }
    default:
      return new SnapgateError('UPSTREAM_FAILED', message, { where });
  }
}

function registryMessage(bytes: Uint8Array): string {
  try {
    const body = JSON.parse(Buffer.from(bytes).toString('utf8'));
    const first = body?.errors?.[0];
    const text = `${first?.code ?? ''} ${first?.message ?? ''}`.trim();
    // Printable ASCII only: it ends up on terminals and in logs.
    return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 300);
  } catch {
    return '';
  }
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
