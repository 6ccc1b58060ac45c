import type { Digest } from '../digest.ts';
import { SnapgateError } from '../errors.ts';
import type { ContentReader, StoredManifest } from '../oci/content.ts';
import { verifyBundle } from '../signing/bundle.ts';
import {
  type FoundSignature,
  findSignatures,
  type SignatureManifest,
} from '../signing/find-signatures.ts';
import { verifySimpleSigning } from '../signing/simple-signing.ts';
import { printable, type Verdict } from '../signing/verdict.ts';
import {
  asksContent,
  type CheckedCondition,
  checkContent,
  checkDigest,
  refuseUnmet,
} from './conditions.ts';
import { findRule, type Policy, type PolicyRule } from './policy.ts';
import {
  demandOf,
  isMet,
  type PolicyKey,
  type PolicySigner,
  type Requirement,
  signersOf,
} from './requirement.ts';

/** What is to be judged, and by what. */
export type VerifyRequest = {
  /** Where the signatures are read from: the repository that the manifest is in. */
  readonly reader: ContentReader;
  /** The repository as the policy names it, `host/name`. */
  readonly repository: string;
  /** The manifest, index or delta artifact; whoever has its bytes has checked them against this. */
  readonly digest: Digest;
  readonly kind: 'image' | 'delta';
  readonly policy: Policy;
  /** The time that validity windows of keys are held against. */
  readonly now: Date;
  /** The manifest itself where it is at hand; otherwise it is read when a condition asks for it. */
  readonly stored?: StoredManifest;
  /**
   * The index that this image was chosen from; the caller has seen that it stands in it. When the
   * index was accepted, its signature vouches for the digests in it, and only the conditions are left
   * to check.
   */
  readonly within?: { readonly index: Digest; readonly accepted?: Examination };
  /** Read every signature, also after enough have counted: to explain. */
  readonly examineAll?: boolean;
  readonly signal?: AbortSignal;
};

/** One signature that was looked at. */
export type ExaminedSignature = {
  readonly form: 'bundle' | 'legacy';
  /** The manifest that holds it. */
  readonly manifest: Digest | undefined;
  /** The policy's name of the key that made it, when it is good. */
  readonly signer?: string;
  readonly counted: boolean;
  /** Why it was not counted. */
  readonly reason?: string;
};

/** What was found of a manifest's signatures. */
export type Examination = {
  readonly rule: PolicyRule;
  readonly requirement: Requirement;
  /** Names of the different signers whose signatures count. */
  readonly signers: readonly string[];
  /** Instant from which a key's signature that counts now does not any more. */
  readonly until?: Date;
  readonly signatures: readonly ExaminedSignature[];
  /** The manifests of the signatures that count, with their blobs, as they were published. */
  readonly signatureManifests: readonly SignatureManifest[];
  /** What was asked besides signatures, as far as it was checked. */
  readonly conditions: readonly CheckedCondition[];
};

/**
 * Judges a manifest by its signatures and by what else the rule asks. A signature that does not verify counts for nothing and harms
 * nothing: a bad bundle beside a good legacy signature, or the reverse, is accepted; several by one
 * key count once, whatever their form. Nothing is read before a rule was found, reading stops when
 * enough signatures count, and only then is content looked at.
 *
 * Throws POLICY_REFUSED without a rule, when good signatures are fewer than asked for, or when a
 * condition is not met; SIGNATURE_MISSING when there is none; SIGNATURE_INVALID when there are some and none is good; and
 * what the registry answers.
 */
export async function verifyManifest(request: VerifyRequest): Promise<Examination> {
  const where = `${request.repository}@${request.digest}`;
  const { conditions } = ruleFor(request).rule;
  const { digest, kind, within } = request;
  const byDigest = checkDigest(conditions, digest, kind, within?.index);
  refuseUnmet(byDigest, where);
  const examination = within?.accepted ?? (await examineSignatures(request));
  const refusal = within?.accepted === undefined ? refusalOf(examination, where) : undefined;
  if (refusal !== undefined) throw refusal;
  const byContent = await examineContent(request);
  refuseUnmet(byContent, where);
  return { ...examination, conditions: [...byDigest, ...byContent] };
}

/**
 * Does what {@link verifyManifest} does, but reports instead of refusing: {@link refusalOf} judges
 * what it gives. Throws without a rule, and what reading throws.
 */
export async function examineManifest(request: VerifyRequest): Promise<Examination> {
  const { conditions } = ruleFor(request).rule;
  const { digest, kind, within } = request;
  const byDigest = checkDigest(conditions, digest, kind, within?.index);
  const examination = within?.accepted ?? (await examineSignatures(request));
  const isGood = refusalOf(examination, '') === undefined && byDigest.every(({ met }) => met);
  // What nobody trusted has signed is not looked into.
  const byContent = isGood ? await examineContent(request) : [];
  return { ...examination, conditions: [...byDigest, ...byContent] };
}

/** Finds the rule and what it asks. Throws POLICY_REFUSED. */
function ruleFor({ policy, repository, kind }: VerifyRequest): {
  rule: PolicyRule;
  requirement: Requirement;
} {
  const rule = findRule(policy, repository);
  const requirement = kind === 'image' ? rule.images : rule.deltas;
  if (requirement !== undefined) return { rule, requirement };
  throw new SnapgateError('POLICY_REFUSED', 'the policy lets no delta be used here', {
    where: repository,
    hint: `The rule for ${rule.repository} says so.`,
  });
}

async function examineContent(request: VerifyRequest): Promise<CheckedCondition[]> {
  const { conditions } = ruleFor(request).rule;
  const { reader, kind, digest, signal } = request;
  if (!asksContent(conditions, kind)) return [];
  const stored = request.stored ?? (await reader.getManifest(digest, signal));
  return checkContent(conditions, stored, kind, reader, signal);
}

/** Reads the signatures of a manifest until enough count. Throws without a rule. */
async function examineSignatures(request: VerifyRequest): Promise<Examination> {
  const { reader, digest, now, signal } = request;
  const { rule, requirement } = ruleFor(request);
  const allowed = signersOf(requirement);
  const signers = new Set<string>();
  const signatures: ExaminedSignature[] = [];
  const manifests = new Set<SignatureManifest>();
  for await (const found of findSignatures(reader, digest, signal)) {
    if ('reason' in found) {
      const { form, manifest, reason } = found;
      signatures.push({ form, manifest, counted: false, reason: printable(reason) });
      continue;
    }
    const examined = judge(found, verdictOn(found, digest, allowed), allowed, now);
    signatures.push(examined);
    if (!examined.counted || examined.signer === undefined) continue;
    signers.add(examined.signer);
    manifests.add(found.manifest);
    if (isMet(requirement, signers) && request.examineAll !== true) break;
  }
  return {
    ...{ rule, requirement, signers: [...signers], signatures, conditions: [] },
    ...untilOf(allowed.filter(({ name }) => signers.has(name))),
    signatureManifests: [...manifests],
  };
}

function untilOf(signers: readonly PolicySigner[]): { until?: Date } {
  const ends = signers.flatMap((signer) => ('key' in signer ? (signer.validUntil ?? []) : []));
  const [first] = ends.sort((a, b) => a.getTime() - b.getTime());
  return first === undefined ? {} : { until: first };
}

/** Why an examination ends in refusal, or undefined when it does not. */
export function refusalOf(examination: Examination, where: string): SnapgateError | undefined {
  const { signers, signatures, requirement, rule } = examination;
  if (isMet(requirement, new Set(signers))) return conditionRefusal(examination, where);
  if (signatures.length === 0) {
    return new SnapgateError('SIGNATURE_MISSING', 'it is not signed', {
      where,
      hint: `The rule for ${rule.repository} asks for ${demandOf(requirement)}.`,
    });
  }
  const reasons = [...new Set(signatures.map((one) => one.reason).filter(Boolean))];
  const why = reasons.slice(0, 3).join('; ');
  if (signatures.every((one) => one.signer === undefined)) {
    return new SnapgateError('SIGNATURE_INVALID', `no signature is good: ${why}`, {
      where,
      hint: `The rule for ${rule.repository} asks for ${demandOf(requirement)}.`,
    });
  }
  const have = signers.length === 0 ? 'none' : signers.join(', ');
  const message = `signatures that count: ${have}; asked for: ${demandOf(requirement)}`;
  return new SnapgateError('POLICY_REFUSED', `${message}${why === '' ? '' : ` (${why})`}`, {
    where,
    hint: `See the rule for ${rule.repository} in the policy file.`,
  });
}

function conditionRefusal({ conditions }: Examination, where: string): SnapgateError | undefined {
  try {
    refuseUnmet(conditions, where);
    return undefined;
  } catch (thrown) {
    return thrown as SnapgateError;
  }
}

function verdictOn(
  found: FoundSignature,
  digest: Digest,
  allowed: readonly PolicySigner[],
): Verdict {
  const keys = allowed.flatMap((signer) => ('key' in signer ? signer.key : []));
  if (found.form === 'legacy') {
    return verifySimpleSigning(found.bytes, found.signature, digest, keys);
  }
  const identities = allowed.flatMap((signer) => ('identity' in signer ? signer.identity : []));
  return verifyBundle(found.bytes, digest, keys, identities);
}

function judge(
  found: FoundSignature,
  verdict: Verdict,
  allowed: readonly PolicySigner[],
  now: Date,
): ExaminedSignature {
  const { form } = found;
  const manifest = found.manifest.stored.digest;
  if (!verdict.good) return { form, manifest, counted: false, reason: verdict.reason };
  const signer = allowed.find((one) =>
    'key' in one
      ? 'key' in verdict && one.key.hint === verdict.key.hint
      : 'identity' in verdict && one.identity === verdict.identity,
  );
  if (signer === undefined) throw new Error('a signer that was not asked about made a signature');
  const reason = 'key' in signer ? windowProblem(signer, now) : undefined;
  if (reason === undefined) return { form, manifest, signer: signer.name, counted: true };
  return { form, manifest, signer: signer.name, counted: false, reason };
}

function windowProblem({ name, validFrom, validUntil }: PolicyKey, now: Date): string | undefined {
  if (validFrom !== undefined && now < validFrom) {
    return `key ${name} is valid from ${validFrom.toISOString()} on`;
  }
  if (validUntil !== undefined && now >= validUntil) {
    return `key ${name} was valid until ${validUntil.toISOString()}`;
  }
  return undefined;
}
