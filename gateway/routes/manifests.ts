import { Readable } from 'node:stream';
import { type Digest, isDigest, sha256 } from '../../shared/digest.ts';
import { toSnapgateError } from '../../shared/errors.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import { MAX_MANIFEST_BYTES, manifestMediaType } from '../../shared/oci/manifest.ts';
import { isTag } from '../../shared/oci/reference.ts';
import { type Referrer, readReferrer } from '../upstream/fallback-referrers.ts';
import { headerValue } from '../upstream/headers.ts';
import { sendAnswer } from './exchange.ts';
import { askGated, readPushed } from './gated-manifests.ts';
import { clientHeaders, type Exchange, passOn } from './pass-on.ts';

/** Passes a manifest to the client if the gate lets it through, and notes what it says. */
export async function getManifest(
  repository: string,
  reference: string,
  call: Exchange,
): Promise<Response> {
  const { gate } = call.deps;
  const answer = await (gate ? askGated(repository, reference, call, gate) : passOn(call));
  const headers = clientHeaders(answer, repository, call);
  if (answer.status !== 200) return sendAnswer(call, answer, headers);
  const copy = new ManifestCopy();
  copy.watch(answer.body);
  const response = await sendAnswer(call, answer, headers);
  const stored = copy.stored(headerValue(answer.headers, 'content-type'));
  if (stored !== undefined) call.deps.facts.observe(repository, stored);
  return response;
}

/**
 * Passes a manifest to the registry. When it refers to another and the registry does not say that it
 * keeps a list of those, the gateway adds it to the list under the fallback tag, as it answers the
 * referrers API itself.
 */
export async function putManifest(
  repository: string,
  reference: string,
  call: Exchange,
): Promise<Response> {
  const copy = new ManifestCopy();
  const { gate } = call.deps;
  const source = gate?.pushes
    ? Readable.from([await readPushed(repository, reference, call, gate)])
    : call.body;
  const body = source === undefined ? undefined : copy.through(source);
  const answer = await passOn({ ...call, body });
  const headers = clientHeaders(answer, repository, call);
  const stored = copy.stored(headerValue(call.headers, 'content-type'));
  const isKept = answer.status === 201 && (isTag(reference) || stored?.digest === reference);
  if (isKept && stored !== undefined) {
    call.deps.facts.observe(repository, stored);
    if (headers['oci-subject'] === undefined) {
      const subject = await listReferrer(repository, stored, call);
      if (subject !== undefined) headers['oci-subject'] = subject;
    }
    await call.deps.pushSigning.pushed(repository, reference, stored);
  }
  return sendAnswer(call, answer, headers);
}

/** Passes a deletion on, and forgets what was known of the manifest. */
export async function deleteManifest(
  repository: string,
  reference: string,
  call: Exchange,
): Promise<Response> {
  const answer = await passOn(call);
  if (answer.status < 300 && isDigest(reference)) {
    call.deps.catalogue.removeManifest(repository, reference);
    call.deps.referrers.forget(repository, reference);
  }
  return sendAnswer(call, answer, clientHeaders(answer, repository, call));
}

/** The subject under which a manifest is listed now; undefined when it is not. */
async function listReferrer(
  repository: string,
  stored: StoredManifest,
  { deps, headers }: Exchange,
): Promise<Digest | undefined> {
  const referrer = referrerOf(stored);
  if (referrer === undefined) return undefined;
  try {
    const store = deps.openRepository(repository, headerValue(headers, 'authorization'));
    await deps.referrers.add(repository, store, referrer);
    return referrer.subject;
  } catch (thrown) {
    // The manifest itself is stored. Without OCI-Subject the client writes the list itself.
    const { code, message } = toSnapgateError(thrown);
    deps.log('warn', 'referrer not listed', {
      repository,
      digest: stored.digest,
      code,
      reason: message,
    });
    return undefined;
  }
}

function referrerOf(stored: StoredManifest): Referrer | undefined {
  try {
    return readReferrer(stored);
  } catch {
    return undefined;
  }
}

/** Keeps a copy of a manifest that streams by, unless it is larger than manifests may be. */
class ManifestCopy {
  readonly #chunks: Uint8Array[] = [];
  #size = 0;

  watch(body: Readable): void {
    body.on('data', (chunk: Uint8Array) => this.#add(chunk));
  }

  async *through(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const chunk of body) {
      this.#add(chunk);
      yield chunk;
    }
  }

  stored(contentType: string | undefined): StoredManifest | undefined {
    if (this.#size === 0 || this.#size > MAX_MANIFEST_BYTES) return undefined;
    const bytes = Buffer.concat(this.#chunks);
    try {
      const mediaType = manifestMediaType(bytes, contentType ?? '');
      return { digest: sha256(bytes), mediaType, bytes };
    } catch {
      return undefined;
    }
  }

  #add(chunk: Uint8Array): void {
    this.#size += chunk.length;
    if (this.#size <= MAX_MANIFEST_BYTES) this.#chunks.push(chunk);
    else this.#chunks.length = 0;
  }
}
