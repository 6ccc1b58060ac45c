import * as v from 'valibot';
import { SnapgateError, toSnapgateError } from '../errors.ts';
import { type PublicKey, parsePublicKey } from '../signing/public-key.ts';
import { parseStrictJson } from '../strict-json.ts';
import { isRepositoryPattern, longestMatch } from './repository-pattern.ts';

/** Largest policy file, in characters. */
const MAX_POLICY = 1024 * 1024;
const MAX_KEYS = 64;
const MAX_RULES = 1024;

const time = v.pipe(
  v.string(),
  v.isoTimestamp('must be a time such as 2026-01-31T00:00:00Z'),
  v.transform((text) => new Date(text)),
);
const name = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'must be a name of letters, digits and . _ -'),
);

const keySchema = v.strictObject({
  /** PEM of an ECDSA P-256 public key, with `\n` between its lines. */
  pem: v.string(),
  /** First instant at which signatures by this key count. Always, when absent. */
  validFrom: v.optional(time),
  /** Instant from which signatures by this key count no more. Never, when absent. */
  validUntil: v.optional(time),
});

const requirementSchema = v.strictObject({
  /** Names of the keys that may sign. */
  signers: v.pipe(v.array(name), v.minLength(1, 'must name a signer'), v.maxLength(MAX_KEYS)),
  /** How many different ones of them must have signed. One, when absent. */
  threshold: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1)), 1),
});

const ruleSchema = v.strictObject({
  /**
   * The repositories that the rule is for, with the registry's host as the machine writes it:
   * `HOST/REPO` for one, `HOST/PREFIX/*` or `HOST/*` for all beneath, `*` for all. Of several that
   * match, the longest holds; a repository that none matches is refused.
   */
  repository: v.pipe(
    v.string(),
    v.check(isRepositoryPattern, 'must be HOST/REPO, a prefix of it followed by /*, or *'),
  ),
  /** Who must have signed an image. */
  images: requirementSchema,
  /** Who must have signed a delta. The same as for images, when absent. */
  deltas: v.optional(requirementSchema),
});

const policySchema = v.strictObject({
  /** Version of this format. */
  version: v.literal(1, 'must be 1'),
  /** The keys that rules speak of, by a name of your choice. */
  keys: v.pipe(v.record(name, keySchema), v.maxEntries(MAX_KEYS)),
  rules: v.pipe(v.array(ruleSchema), v.maxLength(MAX_RULES)),
});

/** A key of a policy. */
export type PolicyKey = {
  readonly name: string;
  readonly key: PublicKey;
  readonly validFrom: Date | undefined;
  readonly validUntil: Date | undefined;
};

/** Who must have signed. */
export type Requirement = { readonly signers: readonly PolicyKey[]; readonly threshold: number };

/** What a policy says about the repositories that a pattern covers. */
export type PolicyRule = {
  readonly repository: string;
  readonly images: Requirement;
  readonly deltas: Requirement;
};

/** A policy that was read and checked. */
export type Policy = { readonly rules: readonly PolicyRule[] };

/** What a machine without a policy file holds to: everything is refused. */
export const REFUSE_ALL: Policy = { rules: [] };

/**
 * Parses a policy file. The fields are documented at the schema above. Unknown fields, keys that
 * stand twice and rules that could never be met are errors: a policy that was misread is worse than
 * none. `where` names the file. Throws CONFIG_INVALID, KEY_INVALID.
 */
export function parsePolicy(text: string, where?: string): Policy {
  const refuse = (message: string, cause?: unknown) =>
    new SnapgateError('CONFIG_INVALID', `policy: ${message}`, {
      ...(where === undefined ? {} : { where }),
      hint: 'Correct the policy file; nothing is accepted until then.',
      ...(cause === undefined ? {} : { cause }),
    });
  if (text.length > MAX_POLICY) throw refuse('the file is over 1 MiB');
  let json: unknown;
  try {
    json = parseStrictJson(text);
  } catch (cause) {
    throw refuse((cause as Error).message, cause);
  }
  const parsed = v.safeParse(policySchema, json);
  if (!parsed.success) {
    const [issue] = parsed.issues;
    throw refuse(`${v.getDotPath(issue) ?? 'the file'}: ${issue.message}`);
  }
  const { rules } = parsed.output;
  const keys = readKeys(parsed.output.keys, where);
  const twice = repeated(rules.map((rule) => rule.repository));
  if (twice !== undefined) throw refuse(`two rules are for ${twice}`);
  try {
    return { rules: rules.map((rule) => readRule(rule, keys)) };
  } catch (thrown) {
    throw refuse(toSnapgateError(thrown).message);
  }
}

/** The rule for a repository, `host/name`. Throws POLICY_REFUSED when there is none. */
export function findRule(policy: Policy, repository: string): PolicyRule {
  const rule = longestMatch(policy.rules, repository);
  if (rule !== undefined) return rule;
  throw new SnapgateError('POLICY_REFUSED', 'no rule of the policy covers this repository', {
    where: repository,
    hint: 'Add a rule for it to the policy file, if its images are to be trusted.',
  });
}

type KeyInput = v.InferOutput<typeof policySchema>['keys'];

function readKeys(input: KeyInput, where: string | undefined): Map<string, PolicyKey> {
  const keys = new Map<string, PolicyKey>();
  const names = new Map<string, string>();
  for (const [name, { pem, validFrom, validUntil }] of Object.entries(input)) {
    const key = parsePublicKey(pem, `${where ?? 'policy'}, key ${name}`);
    const other = names.get(key.hint);
    if (other !== undefined) {
      throw new SnapgateError('CONFIG_INVALID', `policy: ${other} and ${name} are one key`, {
        ...(where === undefined ? {} : { where }),
        hint: 'Give each key one name, so that a threshold counts different signers.',
      });
    }
    names.set(key.hint, name);
    keys.set(name, { name, key, validFrom, validUntil });
  }
  return keys;
}

function readRule(
  input: v.InferOutput<typeof ruleSchema>,
  keys: ReadonlyMap<string, PolicyKey>,
): PolicyRule {
  const { repository } = input;
  const images = readRequirement(input.images, keys, `${repository}, images`);
  const deltas =
    input.deltas === undefined
      ? images
      : readRequirement(input.deltas, keys, `${repository}, deltas`);
  return { repository, images, deltas };
}

function readRequirement(
  input: v.InferOutput<typeof requirementSchema>,
  keys: ReadonlyMap<string, PolicyKey>,
  what: string,
): Requirement {
  const twice = repeated(input.signers);
  if (twice !== undefined) throw new Error(`${what}: ${twice} is named twice`);
  if (input.threshold > input.signers.length) {
    throw new Error(`${what}: ${input.threshold} signers are asked for and fewer are named`);
  }
  const signers = input.signers.map((name) => {
    const key = keys.get(name);
    if (key === undefined) throw new Error(`${what}: there is no key ${name}`);
    return key;
  });
  return { signers, threshold: input.threshold };
}

function repeated(texts: readonly string[]): string | undefined {
  return texts.find((text, i) => texts.indexOf(text) !== i);
}
