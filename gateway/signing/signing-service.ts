import type { Digest } from '../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { ContentStore, StoredManifest } from '../../shared/oci/content.ts';
import { parseManifest } from '../../shared/oci/manifest.ts';
import { isTag } from '../../shared/oci/reference.ts';
import type { Policy } from '../../shared/policy/policy.ts';
import { longestMatch } from '../../shared/policy/repository-pattern.ts';
import { verifyManifest } from '../../shared/policy/verify-manifest.ts';
import type { KeylessSigner } from './keyless.ts';
import { manifestsToSign, signImage } from './sign-image.ts';
import { type SignResult, signManifest } from './sign-manifest.ts';
import type { Signer } from './signer.ts';

/** Most images that the service remembers to have signed. */
const MAX_REMEMBERED = 4096;

/** What is signed in the repositories that a pattern covers; of several the longest holds. */
export type SigningRule = {
  /** `NAME`, `PREFIX/*` or `*`, without a host. */
  readonly repository: string;
  readonly signer: Signer | KeylessSigner;
  readonly images: boolean;
  readonly deltas: boolean;
  /** Whether images are signed as soon as they are pushed. */
  readonly atPush?: boolean;
  /**
   * When given, only images that this policy accepts are signed, and only deltas that lead to such.
   * It should not name the gateway's own key.
   */
  readonly requirePublisher?: Policy | undefined;
};

/** What the service decided about a manifest. */
export type SigningEvent = {
  readonly repository: string;
  readonly digest: Digest;
  readonly kind: 'image' | 'delta';
  /** `refused`: its publisher's signature is missing or not good. */
  readonly outcome: 'signed' | 'present' | 'refused';
  /** Why it was refused. */
  readonly refusal?: SnapgateError;
};

export type SigningServiceOptions = {
  readonly rules: readonly SigningRule[];
  /** Opens a repository with the credentials that may write signatures. */
  readonly open: (repository: string) => ContentStore;
  /** `host[:port]` in front of repositories in docker-references and publishers' policies. */
  readonly registry: string;
  readonly onEvent?: (event: SigningEvent) => void;
  readonly now?: () => Date;
};

/** What is to be signed by the time that a client hears of it. */
export type SigningTarget = {
  readonly repository: string;
  readonly tagOrDigest: string;
  /** The manifest of the platform that is wanted. */
  readonly manifest: Digest;
};

/**
 * Signs images and deltas of the repositories that its rules cover. Work in one repository is done
 * one after the other, as registries lose signatures that two writers add at once; identical calls
 * share their work, and what is known to be signed costs nothing.
 */
export class SigningService {
  readonly #options: SigningServiceOptions;
  readonly #done = new Set<string>();
  readonly #running = new Map<string, Promise<void>>();
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(options: SigningServiceOptions) {
    this.#options = options;
  }

  /**
   * Sees to it that an image is signed: under a tag, all its platforms and its index. An image
   * without a publisher's signature where one is required is left as it is, and reported. Throws
   * what the registry answers.
   */
  async ensureSigned(target: SigningTarget): Promise<void> {
    const rule = longestMatch(this.#options.rules, target.repository);
    if (rule === undefined || !rule.images) return;
    const name = `${target.repository} ${target.tagOrDigest} ${target.manifest}`;
    if (this.#done.has(name)) return;
    const running = this.#running.get(name);
    if (running !== undefined) return running;
    const work = this.#inTurn(target.repository, () => this.#signTarget(rule, target, name));
    this.#running.set(name, work);
    try {
      await work;
    } finally {
      this.#running.delete(name);
    }
  }

  /** Whether images of a repository are signed as soon as they are pushed. */
  isSignedAtPush(repository: string): boolean {
    const rule = longestMatch(this.#options.rules, repository);
    return rule?.images === true && rule.atPush === true;
  }

  /**
   * Signs a delta that was just stored. Returns undefined when no rule asks for it, or when its
   * target lacks the publisher's signature that is required. Throws what the registry answers.
   */
  async signDelta(repository: string, artifact: StoredManifest): Promise<SignResult | undefined> {
    const rule = longestMatch(this.#options.rules, repository);
    if (rule === undefined || !rule.deltas) return undefined;
    const { digest, mediaType } = artifact;
    const { subject } = parseManifest(artifact.bytes);
    if (subject === undefined) {
      throw new SnapgateError('DELTA_INVALID', 'the delta names no target', { where: digest });
    }
    return this.#inTurn(repository, async () => {
      const store = this.#options.open(repository);
      const refusal = await this.#publisherRefusal(rule, repository, store, subject.digest);
      if (refusal !== undefined) {
        this.#report({ repository, digest, kind: 'delta', outcome: 'refused', refusal });
        return undefined;
      }
      const result = await signManifest(
        store,
        { mediaType, digest, size: artifact.bytes.byteLength },
        { signer: rule.signer, dockerReference: this.#reference(repository) },
      );
      this.#report({ repository, digest, kind: 'delta', outcome: outcomeOf([result]) });
      return result;
    });
  }

  async #signTarget(rule: SigningRule, target: SigningTarget, name: string): Promise<void> {
    const { repository, tagOrDigest, manifest } = target;
    const store = this.#options.open(repository);
    const top = await this.#topManifest(store, target);
    // The publisher may have signed the index alone, or each platform.
    const report = { repository, digest: manifest, kind: 'image' } as const;
    let signed = top;
    let refusal = await this.#publisherRefusal(rule, repository, store, top.digest);
    if (refusal !== undefined && top.digest !== manifest) {
      refusal = await this.#publisherRefusal(rule, repository, store, manifest);
      signed = await store.getManifest(manifest);
    }
    if (refusal !== undefined) {
      this.#report({ ...report, outcome: 'refused', refusal });
      return;
    }
    const tag = isTag(tagOrDigest) ? tagOrDigest : undefined;
    const dockerReference = this.#reference(repository, tag);
    const results = await signImage(store, signed, { signer: rule.signer, dockerReference });
    this.#report({ ...report, outcome: outcomeOf(results) });
    this.#remember(name);
  }

  /** The index that was asked for, or the manifest itself where the tag has moved in between. */
  async #topManifest(store: ContentStore, target: SigningTarget): Promise<StoredManifest> {
    const top = await store.getManifest(target.tagOrDigest);
    const covers = manifestsToSign(top).some(({ digest }) => digest === target.manifest);
    return covers ? top : store.getManifest(target.manifest);
  }

  /** Why the publisher's policy refuses a manifest; undefined when it accepts it or there is none. */
  async #publisherRefusal(
    rule: SigningRule,
    repository: string,
    reader: ContentStore,
    digest: Digest,
  ): Promise<SnapgateError | undefined> {
    const policy = rule.requirePublisher;
    if (policy === undefined) return undefined;
    const now = this.#options.now?.() ?? new Date();
    try {
      const name = this.#reference(repository);
      await verifyManifest({ reader, repository: name, digest, kind: 'image', policy, now });
      return undefined;
    } catch (thrown) {
      const error = toSnapgateError(thrown);
      if (error.exitStatus === 3) return error;
      throw thrown;
    }
  }

  #reference(repository: string, tag?: string): string {
    return `${this.#options.registry}/${repository}${tag === undefined ? '' : `:${tag}`}`;
  }

  #report(event: SigningEvent): void {
    this.#options.onEvent?.(event);
  }

  #remember(name: string): void {
    const [oldest] = this.#done;
    if (this.#done.size >= MAX_REMEMBERED && oldest !== undefined) this.#done.delete(oldest);
    this.#done.add(name);
  }

  async #inTurn<Result>(repository: string, step: () => Promise<Result>): Promise<Result> {
    const before = this.#turns.get(repository) ?? Promise.resolve();
    const turn = before.then(step, step);
    this.#turns.set(repository, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(repository) === turn) this.#turns.delete(repository);
    }
  }
}

function outcomeOf(results: readonly SignResult[]): 'signed' | 'present' {
  const isAdded = ({ bundle, legacy }: SignResult) => bundle === 'added' || legacy === 'added';
  return results.some(isAdded) ? 'signed' : 'present';
}
