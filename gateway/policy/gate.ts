import type { Digest } from '../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { ContentReader, StoredManifest } from '../../shared/oci/content.ts';
import { parseIndex, parseManifest } from '../../shared/oci/manifest.ts';
import { isIndexType } from '../../shared/oci/media-types.ts';
import { kindOf } from '../../shared/policy/explain.ts';
import type { Policy } from '../../shared/policy/policy.ts';
import {
  type Examination,
  type VerifyRequest,
  verifyManifest,
} from '../../shared/policy/verify-manifest.ts';
import type { Catalogue } from '../store/catalogue.ts';
import { isAttachment } from './attachment.ts';

/** How long a refusal is remembered, in milliseconds: a signature may come at any time. */
const REFUSAL_MS = 15_000;
/** Most refusals remembered. */
const MAX_REFUSALS = 4096;
/** Longest time that an acceptance is remembered, in milliseconds; then it is judged again. */
const ACCEPTANCE_MS = 24 * 3600 * 1000;

/** `enforce` serves only what the policy accepts; `audit` serves all of it, and counts. */
export type GateMode = 'enforce' | 'audit';

/** What the gate decided about a manifest or a blob. */
export type GateDecision = {
  readonly repository: string;
  readonly digest: string;
  /** `attachment`: a signature, an attestation or another referrer, which everybody may read. */
  readonly outcome: 'accepted' | 'attachment' | 'refused';
  readonly isCached: boolean;
  readonly refusal?: SnapgateError;
};

export type GateOptions = {
  readonly mode: GateMode;
  /** Whether what is pushed is judged as well, before the registry gets it. */
  readonly pushes: boolean;
  readonly policy: Policy;
  /** Digest of the policy file: decisions by another one do not count. */
  readonly policyDigest: Digest;
  /** `host[:port]` in front of repositories in the policy. */
  readonly registry: string;
  readonly catalogue: Catalogue;
  /** Has an image signed that the gateway itself may have to sign; then it is judged once more. */
  readonly ensureSigned?: (target: {
    readonly repository: string;
    readonly tagOrDigest: string;
    readonly manifest: Digest;
  }) => Promise<void>;
  readonly onDecision?: (mode: GateMode, decision: GateDecision) => void;
  readonly now?: () => number;
};

/** A manifest that somebody asks for or pushes. */
export type GateRequest = {
  readonly repository: string;
  /** The tag or digest by which it is asked for. */
  readonly reference: string;
  readonly stored: StoredManifest;
  /** The repository with the rights of whoever asks. */
  readonly reader: ContentReader;
  readonly signal?: AbortSignal;
};

/**
 * Lets through what the policy accepts. Decisions are about the bytes that are served, whatever name
 * they were asked for by; acceptances stand in the catalogue with what they reach, until the policy
 * file changes or a key that counted ends.
 */
export class Gate {
  readonly mode: GateMode;
  readonly pushes: boolean;
  readonly #options: GateOptions;
  readonly #refusals = new Map<string, { readonly until: number; readonly error: SnapgateError }>();
  readonly #running = new Map<string, Promise<GateDecision>>();

  constructor(options: GateOptions) {
    this.mode = options.mode;
    this.pushes = options.pushes;
    this.#options = options;
  }

  /**
   * Throws DENIED for a manifest that the policy refuses, unless the gate only counts, and what the
   * registry answers when its signatures are asked for: without an answer nothing passes.
   */
  async check(request: GateRequest): Promise<void> {
    try {
      const decision = this.#cached(request) ?? (await this.#judgeOnce(request));
      this.#settle(decision);
    } catch (thrown) {
      if (this.mode === 'enforce') throw thrown;
      const { repository, stored } = request;
      const refusal = toSnapgateError(thrown);
      if (refusal.code === 'CANCELLED') throw refusal;
      const failed = { repository, digest: stored.digest, isCached: false, refusal };
      this.#options.onDecision?.(this.mode, { ...failed, outcome: 'refused' });
    }
  }

  /** Throws DENIED for a blob that nothing reaches that was let through. */
  checkBlob(repository: string, digest: string): void {
    const { catalogue, policyDigest } = this.#options;
    if (catalogue.reachesBlob(repository, policyDigest, digest, this.#now())) return;
    const refusal = new SnapgateError('POLICY_REFUSED', 'no accepted manifest names this blob', {
      hint: 'Ask for the image first; its blobs are served once the policy has accepted it.',
    });
    this.#settle({ repository, digest, outcome: 'refused', isCached: true, refusal });
  }

  #settle(decision: GateDecision): void {
    this.#options.onDecision?.(this.mode, decision);
    const { repository, digest, refusal } = decision;
    if (refusal === undefined || this.mode === 'audit') return;
    const { code, message, hint } = refusal;
    throw new SnapgateError(
      'DENIED',
      `refused by the policy of this gateway: ${code}: ${message}`,
      {
        where: `${repository}@${digest}`,
        ...(hint === undefined ? {} : { hint }),
        cause: refusal,
      },
    );
  }

  #cached({ repository, stored }: GateRequest): GateDecision | undefined {
    const { catalogue, policyDigest } = this.#options;
    const { digest } = stored;
    const now = this.#now();
    const outcome = catalogue.gateOutcome(repository, policyDigest, digest, now);
    if (outcome !== undefined) return { repository, digest, outcome, isCached: true };
    const refused = this.#refusals.get(`${repository} ${digest}`);
    if (refused === undefined || refused.until <= now) return undefined;
    return { repository, digest, outcome: 'refused', isCached: true, refusal: refused.error };
  }

  /** Several who ask for one manifest at once share one judgement. */
  async #judgeOnce(request: GateRequest): Promise<GateDecision> {
    const name = `${request.repository} ${request.stored.digest} ${request.reference}`;
    const running = this.#running.get(name);
    if (running !== undefined) return running;
    // Not ended by the first who asks going away: others may wait for it.
    const { signal: _, ...unsignalled } = request;
    const work = this.#judge(unsignalled);
    this.#running.set(name, work);
    try {
      return await work;
    } finally {
      this.#running.delete(name);
    }
  }

  async #judge(request: GateRequest): Promise<GateDecision> {
    const { repository, stored, reference } = request;
    const { digest } = stored;
    const base = { repository, digest, isCached: false };
    if (isAttachment(stored, reference)) {
      // The list of referrers under its tag is none under any other name.
      if (!isIndexType(stored.mediaType)) this.#remember(request, 'attachment', undefined);
      return { ...base, outcome: 'attachment' };
    }
    try {
      const { until } = await this.#verify(request);
      this.#remember(request, 'accepted', until);
      return { ...base, outcome: 'accepted' };
    } catch (thrown) {
      const error = toSnapgateError(thrown);
      // What is wrong with the content is as final as what is wrong with its signatures.
      if (error.exitStatus !== 3 && error.exitStatus !== 4) throw error;
      this.#refuse(`${repository} ${digest}`, error);
      return { ...base, outcome: 'refused', refusal: error };
    }
  }

  async #verify(request: GateRequest): Promise<Examination> {
    const { ensureSigned } = this.#options;
    const question = await this.#question(request);
    try {
      return await verifyManifest(question);
    } catch (thrown) {
      const isUnsigned = toSnapgateError(thrown).exitStatus === 3 && question.kind === 'image';
      if (!isUnsigned || ensureSigned === undefined) throw thrown;
      const { repository, reference, stored } = request;
      await ensureSigned({ repository, tagOrDigest: reference, manifest: stored.digest });
      return await verifyManifest(question);
    }
  }

  /** What is asked of the policy: with the index that vouches for an image, where one does. */
  async #question({ repository, stored, reader }: GateRequest): Promise<VerifyRequest> {
    const { policy, policyDigest, registry, catalogue } = this.#options;
    const now = new Date(this.#now());
    const question: VerifyRequest = {
      ...{ reader, policy, now, stored, digest: stored.digest, kind: kindOf(stored) },
      repository: `${registry}/${repository}`,
    };
    if (isIndexType(stored.mediaType)) return question;
    const index = catalogue.indexOf(repository, policyDigest, stored.digest, now.getTime());
    if (index === undefined) return question;
    const { stored: _, ...about } = question;
    const accepted = await verifyManifest({ ...about, digest: index }).catch(() => undefined);
    return { ...question, within: { index, ...(accepted && { accepted }) } };
  }

  #remember(
    { repository, stored }: GateRequest,
    outcome: 'accepted' | 'attachment',
    until: Date | undefined,
  ): void {
    const latest = this.#now() + ACCEPTANCE_MS;
    const isIndex = isIndexType(stored.mediaType);
    const manifests = isIndex ? parseIndex(stored.bytes).manifests : [];
    const { config, layers } = isIndex ? { layers: [] } : parseManifest(stored.bytes);
    this.#options.catalogue.addGateOutcome({
      ...{ repository, policy: this.#options.policyDigest, manifest: stored.digest, outcome },
      until: Math.min(until?.getTime() ?? latest, latest),
      blobs: [config ?? [], layers].flat().map(({ digest }) => digest),
      manifests: manifests.map(({ digest }) => digest),
    });
  }

  #refuse(name: string, error: SnapgateError): void {
    const [oldest] = this.#refusals.keys();
    if (this.#refusals.size >= MAX_REFUSALS && oldest !== undefined) this.#refusals.delete(oldest);
    this.#refusals.delete(name);
    this.#refusals.set(name, { until: this.#now() + REFUSAL_MS, error });
  }

  #now(): number {
    return this.#options.now?.() ?? Date.now();
  }
}
