import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader, StoredManifest } from '../../shared/oci/content.ts';
import { parseIndex, parseManifest } from '../../shared/oci/manifest.ts';
import { isIndexType } from '../../shared/oci/media-types.ts';
import type { Catalogue } from '../store/catalogue.ts';
import type { DeltaFacts, ImageFacts } from '../store/facts.ts';
import { deltaFacts } from './delta-facts.ts';
import { readImageOf } from './read-image.ts';

/** What is read of a repository: always with the rights of whoever asks. */
export type RepositoryReader = ContentReader & { listTags(): Promise<string[]> };

/** Most tags looked through for the image that a config digest names. */
const MAX_TAGS = 1000;
/** Most referrers of one image looked at. */
const MAX_REFERRERS = 512;
/** How long a repository is not scanned again, in milliseconds. */
const SCAN_INTERVAL_MS = 30_000;
/** How many manifests are asked for at once. */
const SCAN_WIDTH = 4;

/** Tags that hold signatures or referrers, not images. */
const ATTACHED_TAG = /^sha256-[0-9a-f]{64}(\..+)?$/;

/** Learns of a registry's images and deltas, and remembers it in the catalogue. */
export class RepositoryFacts {
  readonly #catalogue: Catalogue;
  readonly #now: () => number;
  /** When a repository was last looked through, and which tag led where then. */
  readonly #scans = new Map<string, { at: number; running: Promise<void> }>();

  constructor(catalogue: Catalogue, now: () => number = Date.now) {
    this.#catalogue = catalogue;
    this.#now = now;
  }

  /** Notes what a manifest that passes by says. Never throws: it may be anything. */
  observe(repository: string, stored: StoredManifest): void {
    if (isIndexType(stored.mediaType)) return;
    try {
      const { config, artifactType } = parseManifest(stored.bytes);
      if (artifactType === undefined) {
        this.#catalogue.addManifest(repository, stored.digest, config.digest);
      }
    } catch {
      // The registry decides whether a manifest is good; here it is just of no use.
    }
  }

  /** All facts of an image whose manifest is at hand. Throws as {@link readImageOf}. */
  async imageOf(
    repository: string,
    reader: ContentReader,
    stored: StoredManifest,
    signal?: AbortSignal,
  ): Promise<ImageFacts> {
    const known = this.#catalogue.image(repository, stored.digest);
    if (known !== undefined) return known;
    const { facts } = await readImageOf(reader, stored, signal);
    this.#catalogue.addImage(repository, facts);
    return facts;
  }

  /**
   * Finds the image with a config digest among those known and, when none is, among the tags of the
   * repository. Undefined when there is none that `reader` can read.
   */
  async imageByConfig(
    repository: string,
    reader: RepositoryReader,
    config: Digest,
    signal?: AbortSignal,
  ): Promise<ImageFacts | undefined> {
    const known = await this.#knownByConfig(repository, reader, config, signal);
    if (known !== undefined) return known;
    await this.#scan(repository, reader);
    return this.#knownByConfig(repository, reader, config, signal);
  }

  async #knownByConfig(
    repository: string,
    reader: ContentReader,
    config: Digest,
    signal: AbortSignal | undefined,
  ): Promise<ImageFacts | undefined> {
    for (const digest of this.#catalogue.manifestsOf(repository, config)) {
      const image = this.#catalogue.image(repository, digest);
      if (image !== undefined) return image;
      try {
        const stored = await reader.getManifest(digest, signal);
        return await this.imageOf(repository, reader, stored, signal);
      } catch (thrown) {
        if (!isGone(thrown)) throw thrown;
        this.#catalogue.removeManifest(repository, digest);
      }
    }
    return undefined;
  }

  /**
   * Looks through the tags once in a while; those who ask meanwhile wait for the same look, which is
   * why it does not stop when the one who asked first goes away.
   */
  async #scan(repository: string, reader: RepositoryReader): Promise<void> {
    const last = this.#scans.get(repository);
    if (last !== undefined && this.#now() - last.at < SCAN_INTERVAL_MS) return last.running;
    const running = this.#scanTags(repository, reader);
    this.#scans.set(repository, { at: this.#now(), running });
    if (this.#scans.size > 1000) this.#scans.delete(this.#scans.keys().next().value ?? '');
    running.catch(() => this.#scans.delete(repository));
    return running;
  }

  async #scanTags(repository: string, reader: RepositoryReader): Promise<void> {
    const tags = (await reader.listTags()).filter((tag) => !ATTACHED_TAG.test(tag));
    // Later tags sort last in most naming schemes, and a machine's image is rarely an old one.
    const queue: string[] = tags.slice(-MAX_TAGS);
    const work = async () => {
      for (let tag = queue.pop(); tag !== undefined; tag = queue.pop()) {
        await this.#learnManifest(repository, reader, tag);
      }
    };
    await Promise.all(Array.from({ length: SCAN_WIDTH }, work));
  }

  async #learnManifest(
    repository: string,
    reader: ContentReader,
    tagOrDigest: string,
  ): Promise<void> {
    try {
      const stored = await reader.getManifest(tagOrDigest);
      this.observe(repository, stored);
      if (!isIndexType(stored.mediaType)) return;
      for (const { digest, mediaType } of parseIndex(stored.bytes).manifests) {
        if (isIndexType(mediaType) || this.#catalogue.hasManifest(repository, digest)) continue;
        await this.#learnManifest(repository, reader, digest);
      }
    } catch (thrown) {
      // A tag that vanished or is of a kind unknown here must not hide the others.
      if (!isGone(thrown)) throw thrown;
    }
  }

  /** The deltas that lead to a target, as its referrers tell. */
  async deltasTo(
    repository: string,
    reader: ContentReader,
    target: Digest,
    signal?: AbortSignal,
  ): Promise<DeltaFacts[]> {
    const deltas: DeltaFacts[] = [];
    const referrers = (await reader.listReferrers(target, signal)).slice(-MAX_REFERRERS);
    for (const { digest } of referrers) {
      const facts = await this.#referrer(repository, reader, digest, signal);
      if (facts?.target === target) deltas.push(facts);
    }
    return deltas;
  }

  async #referrer(
    repository: string,
    reader: ContentReader,
    digest: Digest,
    signal: AbortSignal | undefined,
  ): Promise<DeltaFacts | undefined> {
    const known = this.#catalogue.referrer(repository, digest);
    if (known !== undefined) return known === 'other' ? undefined : known;
    try {
      const facts = deltaFacts(await reader.getManifest(digest, signal));
      this.#catalogue.addReferrer(repository, digest, facts);
      return facts;
    } catch (thrown) {
      if (isGone(thrown)) return undefined;
      throw thrown;
    }
  }
}

const GONE = new Set(['MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'MANIFEST_INVALID', 'DIGEST_INVALID']);
const UNUSABLE = new Set(['CONFIG_BLOB_INVALID', 'LIMIT_EXCEEDED', 'SIZE_INVALID']);

/** Whether an error is about this one piece of content, and not about the registry. */
function isGone(thrown: unknown): boolean {
  return thrown instanceof SnapgateError && (GONE.has(thrown.code) || UNUSABLE.has(thrown.code));
}
