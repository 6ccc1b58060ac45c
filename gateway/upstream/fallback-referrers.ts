import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader, StoredManifest } from '../../shared/oci/content.ts';
import { type Descriptor, parseIndex, parseManifest } from '../../shared/oci/manifest.ts';
import { isIndexType } from '../../shared/oci/media-types.ts';
import { fallbackTag } from '../../shared/registry/repository.ts';

/** Most referrers of one subject that are looked at: the newest, which stand last. */
const MAX_REFERRERS = 512;
/** How many manifests are fetched at once. */
const WIDTH = 8;
/** How many descriptors are remembered, and for how long: what is deleted elsewhere must go again. */
const MAX_KNOWN = 10_000;
const MAX_AGE_MS = 5 * 60 * 1000;
/** Larger descriptors, swollen by annotations, are not worth remembering. */
const MAX_KNOWN_CHARACTERS = 4096;

/** A manifest that refers to another. */
export type Referrer = { readonly subject: Digest; readonly descriptor: Descriptor };

/** Where lists of referrers are written. */
export type ReferrerStore = {
  addReferrer(subject: Digest, entry: Descriptor): Promise<void>;
};

type Known = { readonly at: number; readonly referrer: Referrer | undefined };

/**
 * The referrers of registries that have no referrers API. They stand in an index under a tag, whose
 * entries anyone may have written wrongly: only each manifest itself tells what it is.
 */
export class FallbackReferrers {
  readonly #known = new Map<string, Known>();
  /** Last write to the list of each subject, so that one waits for the other. */
  readonly #writes = new Map<string, Promise<void>>();
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  /** Descriptors of all that refer to `subject`, as the referrers API gives them. */
  async list(
    repository: string,
    reader: ContentReader,
    subject: Digest,
    signal?: AbortSignal,
  ): Promise<Descriptor[]> {
    const entries = await fallbackEntries(reader, subject, signal);
    const digests = [...new Set(entries.map((entry) => entry.digest))].slice(-MAX_REFERRERS);
    const found = new Array<Descriptor | undefined>(digests.length);
    const queue = digests.entries();
    const work = async () => {
      for (const [i, digest] of queue) {
        const referrer = await this.#read(repository, reader, digest, signal);
        if (referrer?.subject === subject) found[i] = referrer.descriptor;
      }
    };
    await Promise.all(Array.from({ length: WIDTH }, work));
    return found.filter((one) => one !== undefined);
  }

  /**
   * Lists a manifest that was pushed, as registries with the referrers API do by themselves. Writers
   * of the same subject take turns, since a registry would let the last one win.
   */
  async add(repository: string, store: ReferrerStore, referrer: Referrer): Promise<void> {
    const key = `${repository}@${referrer.subject}`;
    const before = this.#writes.get(key) ?? Promise.resolve();
    const write = before
      .catch(() => {})
      .then(() => store.addReferrer(referrer.subject, referrer.descriptor));
    this.#writes.set(key, write);
    try {
      await write;
    } finally {
      if (this.#writes.get(key) === write) this.#writes.delete(key);
    }
  }

  /** Forgets a manifest that was deleted. */
  forget(repository: string, digest: string): void {
    this.#known.delete(`${repository}@${digest}`);
  }

  async #read(
    repository: string,
    reader: ContentReader,
    digest: Digest,
    signal: AbortSignal | undefined,
  ): Promise<Referrer | undefined> {
    const key = `${repository}@${digest}`;
    const known = this.#known.get(key);
    if (known !== undefined && this.#now() - known.at < MAX_AGE_MS) return known.referrer;
    this.#known.delete(key);
    try {
      const referrer = readReferrer(await reader.getManifest(digest, signal));
      this.#remember(key, referrer);
      return referrer;
    } catch (thrown) {
      if (isBad(thrown)) return undefined;
      throw thrown;
    }
  }

  #remember(key: string, referrer: Referrer | undefined): void {
    if (JSON.stringify(referrer ?? {}).length > MAX_KNOWN_CHARACTERS) return;
    this.#known.set(key, { at: this.#now(), referrer });
    const oldest = this.#known.keys().next().value;
    if (this.#known.size > MAX_KNOWN && oldest !== undefined) this.#known.delete(oldest);
  }
}

/** What a manifest refers to and how it is listed there; undefined when it refers to nothing. */
export function readReferrer(stored: StoredManifest): Referrer | undefined {
  const { digest, mediaType, bytes } = stored;
  const isIndex = isIndexType(mediaType);
  const { subject, artifactType, annotations } = isIndex ? parseIndex(bytes) : parseManifest(bytes);
  if (subject === undefined) return undefined;
  // Distribution specification 1.1, "Listing Referrers".
  const type = artifactType ?? (isIndex ? undefined : parseManifest(bytes).config.mediaType);
  return {
    subject: subject.digest,
    descriptor: {
      ...{ mediaType, digest, size: bytes.byteLength },
      ...(type === undefined ? {} : { artifactType: type }),
      ...(annotations === undefined ? {} : { annotations }),
    },
  };
}

async function fallbackEntries(
  reader: ContentReader,
  subject: Digest,
  signal: AbortSignal | undefined,
): Promise<Descriptor[]> {
  try {
    const stored = await reader.getManifest(fallbackTag(subject), signal);
    return isIndexType(stored.mediaType) ? parseIndex(stored.bytes).manifests : [];
  } catch (thrown) {
    if (thrown instanceof SnapgateError && thrown.httpStatus === 404) return [];
    throw thrown;
  }
}

/** Errors of one manifest, which must not hide the others. */
const BAD = ['MANIFEST_INVALID', 'DIGEST_INVALID', 'LIMIT_EXCEEDED'];

function isBad(thrown: unknown): boolean {
  if (!(thrown instanceof SnapgateError)) return false;
  return thrown.httpStatus === 404 || BAD.includes(thrown.code);
}
