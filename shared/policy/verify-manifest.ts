import type { Digest } from '../digest.ts';
import { SnapgateError } from '../errors.ts';
import type { ContentReader } from '../oci/content.ts';
import { verifyBundle } from '../signing/bundle.ts';
import {
  type FoundSignature,
  findSignatures,
  type SignatureManifest,
} from '../signing/find-signatures.ts';
import type { PublicKey } from '../signing/public-key.ts';
import { verifySimpleSigning } from '../signing/simple-signing.ts';
import { printable, type Verdict } from '../signing/verdict.ts';
import {
  findRule,
  type Policy,
  type PolicyKey,
  type PolicyRule,
  type Requirement,
} from './policy.ts';

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
  /** Names of the different keys whose signatures count. */
  readonly signers: readonly string[];
  readonly signatures: readonly ExaminedSignature[];
  /** The manifests of the signatures that count, with their blobs, as they were published. */
  readonly signatureManifests: readonly SignatureManifest[];
};

/**
 * Judges a manifest by its signatures. A signature that does not verify counts for nothing and harms
 * nothing: a bad bundle beside a good legacy signature, or the reverse, is accepted; several by one
 * key count once, whatever their form. Nothing is read before a rule was found, and reading stops
 * when enough signatures count.
 *
 * Throws POLICY_REFUSED without a rule, or when good signatures are fewer than asked for;
 * SIGNATURE_MISSING when there is none; SIGNATURE_INVALID when there are some and none is good; and
 * what the registry answers.
 */
export async function verifyManifest(request: VerifyRequest): Promise<Examination> {
  const examination = await examineSignatures(request);
  const refusal = refusalOf(examination, `${request.repository}@${request.digest}`);
  if (refusal !== undefined) throw refusal;
  return examination;
}

/** Does what {@link verifyManifest} does, but reports instead of refusing. Throws without a rule. */
export async function examineSignatures(request: VerifyRequest): Promise<Examination> {
  const { reader, digest, policy, now, signal } = request;
  const rule = findRule(policy, request.repository);
  const requirement = request.kind === 'image' ? rule.images : rule.deltas;
  const keys = requirement.signers.map((signer) => signer.key);
  const signers = new Set<string>();
  const signatures: ExaminedSignature[] = [];
  const manifests = new Set<SignatureManifest>();
  for await (const found of findSignatures(reader, digest, signal)) {
    if ('reason' in found) {
      const { form, manifest, reason } = found;
      signatures.push({ form, manifest, counted: false, reason: printable(reason) });
      continue;
    }
    const examined = judge(found, verdictOn(found, digest, keys), requirement, now);
    signatures.push(examined);
    if (!examined.counted || examined.signer === undefined) continue;
    signers.add(examined.signer);
    manifests.add(found.manifest);
    if (signers.size >= requirement.threshold && request.examineAll !== true) break;
  }
  return {
    rule,
    requirement,
    signers: [...signers],
    signatures,
    signatureManifests: [...manifests],
  };
}

/** Why an examination ends in refusal, or undefined when it does not. */
export function refusalOf(examination: Examination, where: string): SnapgateError | undefined {
  const { signers, signatures, requirement, rule } = examination;
  if (signers.length >= requirement.threshold) return undefined;
  if (signatures.length === 0) {
    return new SnapgateError('SIGNATURE_MISSING', 'it is not signed', {
      where,
      hint: `The rule for ${rule.repository} asks for ${demand(requirement)}.`,
    });
  }
  const reasons = [...new Set(signatures.map((one) => one.reason).filter(Boolean))];
  const why = reasons.slice(0, 3).join('; ');
  if (signatures.every((one) => one.signer === undefined)) {
    return new SnapgateError('SIGNATURE_INVALID', `no signature is good: ${why}`, {
      where,
      hint: `The rule for ${rule.repository} asks for ${demand(requirement)}.`,
    });
  }
  const have = signers.length === 0 ? 'none' : signers.join(', ');
  const message = `signatures that count: ${have}; asked for: ${demand(requirement)}`;
  return new SnapgateError('POLICY_REFUSED', `${message}${why === '' ? '' : ` (${why})`}`, {
    where,
    hint: `See the rule for ${rule.repository} in the policy file.`,
  });
}

function demand({ signers, threshold }: Requirement): string {
  return `${threshold} of ${signers.map((signer) => signer.name).join(', ')}`;
}

function verdictOn(found: FoundSignature, digest: Digest, keys: readonly PublicKey[]): Verdict {
  return found.form === 'bundle'
    ? verifyBundle(found.bytes, digest, keys)
    : verifySimpleSigning(found.bytes, found.signature, digest, keys);
}

function judge(
  found: FoundSignature,
  verdict: Verdict,
  requirement: Requirement,
  now: Date,
): ExaminedSignature {
  const { form } = found;
  const manifest = found.manifest.stored.digest;
  if (!verdict.good) return { form, manifest, counted: false, reason: verdict.reason };
  const signer = requirement.signers.find(({ key }) => key.hint === verdict.key.hint);
  if (signer === undefined) throw new Error('a key that was not asked about verified a signature');
  const reason = windowProblem(signer, now);
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
