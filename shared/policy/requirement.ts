import type { Identity } from '../signing/identity.ts';
import type { PublicKey } from '../signing/public-key.ts';

/** A key of a policy. */
export type PolicyKey = {
  readonly name: string;
  readonly key: PublicKey;
  /** First instant at which its signatures count. */
  readonly validFrom: Date | undefined;
  /** Instant from which they count no more. */
  readonly validUntil: Date | undefined;
};

/** A signer without a key of their own, known by a certificate. */
export type PolicyIdentity = { readonly name: string; readonly identity: Identity };

/** Somebody whose signature a policy can ask for. */
export type PolicySigner = PolicyKey | PolicyIdentity;

/** Who must have signed: some of a group, or several such demands together. */
export type Requirement =
  | { readonly signers: readonly PolicySigner[]; readonly threshold: number }
  | { readonly allOf: readonly Requirement[] }
  | { readonly anyOf: readonly Requirement[] };

/** Everybody whose signature can count, each once. */
export function signersOf(requirement: Requirement): PolicySigner[] {
  if ('signers' in requirement) return [...requirement.signers];
  const parts = 'allOf' in requirement ? requirement.allOf : requirement.anyOf;
  return [...new Set(parts.flatMap(signersOf))];
}

/**
 * Whether those who signed are enough. Each counts once within a group; one who stands in several
 * groups counts in each of them.
 */
export function isMet(requirement: Requirement, signed: ReadonlySet<string>): boolean {
  if ('allOf' in requirement) return requirement.allOf.every((part) => isMet(part, signed));
  if ('anyOf' in requirement) return requirement.anyOf.some((part) => isMet(part, signed));
  const { signers, threshold } = requirement;
  return signers.filter(({ name }) => signed.has(name)).length >= threshold;
}

/** The demand in words, such as `1 of release, backup and 1 of gateway`. */
export function demandOf(requirement: Requirement): string {
  if ('signers' in requirement) {
    return `${requirement.threshold} of ${requirement.signers.map(({ name }) => name).join(', ')}`;
  }
  if ('allOf' in requirement) return requirement.allOf.map(inBrackets).join(' and ');
  return requirement.anyOf.map(inBrackets).join(' or ');
}

function inBrackets(requirement: Requirement): string {
  const text = demandOf(requirement);
  return 'signers' in requirement ? text : `(${text})`;
}
