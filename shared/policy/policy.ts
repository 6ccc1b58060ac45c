import * as v from 'valibot';
import { SnapgateError, toSnapgateError } from '../errors.ts';
import { parseTrustedRoot } from '../signing/identity.ts';
import { parsePublicKey } from '../signing/public-key.ts';
import { parseStrictJson } from '../strict-json.ts';
import { parseTrustAnchor } from '../tuf/metadata.ts';
import { type Conditions, readConditions } from './conditions.ts';
import {
  type PolicyInput,
  policySchema,
  type RequirementInput,
  type RuleInput,
} from './policy-schema.ts';
import { longestMatch } from './repository-pattern.ts';
import type { PolicySigner, Requirement } from './requirement.ts';

/** Largest policy file, in characters. */
const MAX_POLICY = 1024 * 1024;

/** What a policy says about the repositories that a pattern covers. */
export type PolicyRule = {
  readonly repository: string;
  readonly images: Requirement;
  /** Who must have signed a delta; undefined where none is used. */
  readonly deltas: Requirement | undefined;
  readonly conditions: Conditions;
  /** Where the meaning of tags comes from; undefined where the registry says it. */
  readonly channel?: ChannelRule;
};

/** Statements about tags, and whom to believe about them. */
export type ChannelRule = {
  /** The policy's name for the root. */
  readonly root: string;
  /** The root of TUF that trust begins with, as its file. */
  readonly anchor: Uint8Array;
  readonly maximumAgeSeconds?: number;
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
  const signers = readKeys(parsed.output.keys, where);
  const twice = repeated(rules.map((rule) => rule.repository));
  if (twice !== undefined) throw refuse(`two rules are for ${twice}`);
  try {
    addIdentities(signers, parsed.output);
    const roots = readChannelRoots(parsed.output.channelRoots);
    return { rules: rules.map((rule) => readRule(rule, signers, roots)) };
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

function readKeys(
  input: PolicyInput['keys'],
  where: string | undefined,
): Map<string, PolicySigner> {
  const keys = new Map<string, PolicySigner>();
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

function addIdentities(
  signers: Map<string, PolicySigner>,
  { identities, trustedRoots }: Pick<PolicyInput, 'identities' | 'trustedRoots'>,
): void {
  const roots = new Map(
    Object.entries(trustedRoots).map(([name, json]) => [name, parseTrustedRoot(json, name)]),
  );
  const names = new Map<string, string>();
  for (const [name, { trustedRoot, ...identity }] of Object.entries(identities)) {
    if (signers.has(name)) throw new Error(`${name} is the name of a key and of an identity`);
    const trust = roots.get(trustedRoot);
    if (trust === undefined) throw new Error(`${name}: there is no trusted root ${trustedRoot}`);
    const person = JSON.stringify([identity.issuer, identity.subject]);
    const other = names.get(person);
    if (other !== undefined) throw new Error(`${other} and ${name} are one identity`);
    names.set(person, name);
    signers.set(name, { name, identity: { ...identity, trust } });
  }
}

function readChannelRoots(input: PolicyInput['channelRoots']): Map<string, Uint8Array> {
  const roots = new Map<string, Uint8Array>();
  for (const [name, json] of Object.entries(input)) {
    const bytes = Buffer.from(JSON.stringify(json));
    parseTrustAnchor(bytes, `channelRoots.${name}`);
    roots.set(name, bytes);
  }
  return roots;
}

function readRule(
  input: RuleInput,
  signers: ReadonlyMap<string, PolicySigner>,
  roots: ReadonlyMap<string, Uint8Array>,
): PolicyRule {
  const { repository } = input;
  const images = readRequirement(input.images, signers, `${repository}, images`);
  return {
    ...{ repository, images, deltas: readDeltas(), conditions: readConditions(input) },
    ...readChannel(),
  };

  function readChannel(): Pick<PolicyRule, 'channel'> {
    if (input.channel === undefined) return {};
    const { root, maximumAgeSeconds } = input.channel;
    const anchor = roots.get(root);
    if (anchor === undefined) throw new Error(`${repository}: there is no channel root ${root}`);
    const age = maximumAgeSeconds === undefined ? {} : { maximumAgeSeconds };
    return { channel: { root, anchor, ...age } };
  }

  function readDeltas(): Requirement | undefined {
    if (input.deltas === false) return undefined;
    if (input.deltas === undefined) return images;
    return readRequirement(input.deltas, signers, `${repository}, deltas`);
  }
}

function readRequirement(
  input: RequirementInput,
  known: ReadonlyMap<string, PolicySigner>,
  what: string,
): Requirement {
  if ('allOf' in input)
    return { allOf: input.allOf.map((part) => readRequirement(part, known, what)) };
  if ('anyOf' in input)
    return { anyOf: input.anyOf.map((part) => readRequirement(part, known, what)) };
  const twice = repeated(input.signers);
  if (twice !== undefined) throw new Error(`${what}: ${twice} is named twice`);
  if (input.threshold > input.signers.length) {
    throw new Error(`${what}: ${input.threshold} signers are asked for and fewer are named`);
  }
  const signers = input.signers.map((name) => {
    const signer = known.get(name);
    if (signer === undefined) throw new Error(`${what}: there is no key or identity ${name}`);
    return signer;
  });
  return { signers, threshold: input.threshold };
}

function repeated(texts: readonly string[]): string | undefined {
  return texts.find((text, i) => texts.indexOf(text) !== i);
}
