import type { Digest } from '../digest.ts';
import { type SnapgateError, toSnapgateError } from '../errors.ts';
import type { StoredManifest } from '../oci/content.ts';
import { type Platform, parseIndex, parseManifest, selectPlatform } from '../oci/manifest.ts';
import { DELTA_ARTIFACT, isIndexType } from '../oci/media-types.ts';
import type { CheckedCondition } from './conditions.ts';
import { matchesPattern } from './repository-pattern.ts';
import { demandOf } from './requirement.ts';
import {
  type Examination,
  type ExaminedSignature,
  examineManifest,
  refusalOf,
  type VerifyRequest,
} from './verify-manifest.ts';

/** Why one manifest is accepted or refused. */
export type Explanation = {
  readonly digest: Digest;
  readonly kind: 'index' | 'image' | 'delta';
  /** Patterns of all rules that cover the repository; the longest, which is `rule`, holds. */
  readonly matching: readonly string[];
  /** Pattern of the rule that holds, and what it asks for; null without one. */
  readonly rule: string | null;
  readonly asked: string | null;
  /** Every signature that was found; none where an index vouches for the image. */
  readonly signatures: readonly ExaminedSignature[];
  readonly vouchedBy: Digest | null;
  readonly conditions: readonly CheckedCondition[];
  readonly refusal: ReturnType<SnapgateError['toJSON']> | null;
};

/** What is to be explained: as for judging, with the manifest at hand. */
export type ExplainRequest = Pick<
  VerifyRequest,
  'reader' | 'repository' | 'policy' | 'now' | 'signal'
> & {
  readonly stored: StoredManifest;
  /** Which image of an index is explained besides it; none, when absent. */
  readonly platform?: Platform;
};

/** Whether a manifest is a delta or what images are made of. Throws MANIFEST_INVALID. */
export function kindOf({ mediaType, bytes }: StoredManifest): 'image' | 'delta' {
  const isDelta = !isIndexType(mediaType) && parseManifest(bytes).artifactType === DELTA_ARTIFACT;
  return isDelta ? 'delta' : 'image';
}

/**
 * Explains how a policy judges a manifest and, for an index, the image of a platform in it. The last
 * explanation is that of what would be used. Throws what reading throws, and MANIFEST_UNKNOWN for an
 * index without the platform.
 */
export async function explainDecision(request: ExplainRequest): Promise<Explanation[]> {
  const { stored, platform, reader, signal } = request;
  const [first, examination] = await explainOne(request, stored, undefined);
  if (!isIndexType(stored.mediaType) || platform === undefined) return [first];
  const entry = selectPlatform(parseIndex(stored.bytes), platform);
  const image = await reader.getManifest(entry.digest, signal);
  const accepted = first.refusal === null ? examination : undefined;
  const within = { index: stored.digest, ...(accepted && { accepted }) };
  const [second] = await explainOne(request, image, within);
  return [first, second];
}

async function explainOne(
  request: ExplainRequest,
  stored: StoredManifest,
  within: VerifyRequest['within'],
): Promise<[Explanation, Examination | undefined]> {
  const { digest } = stored;
  const { policy, repository } = request;
  const kind = kindOf(stored);
  const rules = policy.rules.filter((rule) => matchesPattern(rule.repository, repository));
  const head = {
    digest,
    kind: isIndexType(stored.mediaType) ? ('index' as const) : kind,
    matching: rules.map((rule) => rule.repository),
    vouchedBy: within?.accepted === undefined ? null : within.index,
  };
  try {
    const found = await examineManifest({
      ...{ ...request, digest, kind, stored, examineAll: true },
      ...(within && { within }),
    });
    const refusal = refusalOf(found, `${repository}@${digest}`)?.toJSON() ?? null;
    const { rule, requirement, conditions } = found;
    const signatures = head.vouchedBy === null ? found.signatures : [];
    const asked = demandOf(requirement);
    return [{ ...head, rule: rule.repository, asked, signatures, conditions, refusal }, found];
  } catch (thrown) {
    const error = toSnapgateError(thrown);
    if (error.exitStatus !== 3) throw error;
    const nothing = { rule: null, asked: null, signatures: [], conditions: [] };
    return [{ ...head, ...nothing, refusal: error.toJSON() }, undefined];
  }
}

/** An explanation for people, line by line. */
export function explanationLines(one: Explanation): string[] {
  const { kind, digest, rule, matching, asked, signatures, vouchedBy, conditions, refusal } = one;
  const lines = [`${kind} ${digest}`];
  const others = matching.filter((pattern) => pattern !== rule);
  if (rule !== null) {
    const also = others.length === 0 ? '' : ` (longer than ${others.join(', ')})`;
    lines.push(`  rule ${rule}${also}`, `  asks for ${asked}`);
  }
  if (vouchedBy !== null) lines.push(`  signed by way of the index ${vouchedBy}`);
  for (const { form, manifest, signer, counted, reason } of signatures) {
    const where = manifest === undefined ? '' : ` in ${manifest.slice(0, 'sha256:'.length + 12)}`;
    const by = signer === undefined ? '' : ` by ${signer}`;
    lines.push(`  ${form}${where}${by}: ${counted ? 'counts' : `does not count: ${reason}`}`);
  }
  for (const { condition, met, found } of conditions) {
    lines.push(`  ${condition}: ${met ? 'met' : 'not met'}: ${found}`);
  }
  lines.push(refusal === null ? '  accepted' : `  refused: ${refusal.code}: ${refusal.message}`);
  return lines;
}
