import type { Converted } from './import-containers-policy.ts';
import type { Policy, PolicyRule } from './policy.ts';
import { type PolicyKey, type Requirement, signersOf } from './requirement.ts';

/** Most entries that one rule may turn into. */
const MAX_ENTRIES = 64;

/** One requirement of containers-policy.json(5). */
export type ContainersEntry =
  | { readonly type: 'reject' }
  | {
      readonly type: 'sigstoreSigned';
      /** Base64 of PEM: of the one key, or of several of which one suffices. */
      readonly keyData?: string;
      readonly keyDatas?: readonly string[];
      readonly signedIdentity: { readonly type: 'matchRepository' };
    };

/** A policy file of Podman, skopeo and bootc. */
export type ContainersPolicy = {
  readonly default: readonly ContainersEntry[];
  readonly transports: { readonly docker: Readonly<Record<string, readonly ContainersEntry[]>> };
};

export type ExportOptions = {
  /** Keys that do not count at this time are left out. */
  readonly now: Date;
  /** Also export rules that are weaker there than here, as what else they ask cannot be said. */
  readonly weaker: boolean;
};

/** Keys of which one must have signed, by PEM; all clauses of a list must be met. */
type Clause = ReadonlySet<string>;

/**
 * Turns a policy into the one that Podman, skopeo and bootc read. Groups and thresholds by key are
 * said exactly, as lists of "one of these". What cannot be said is noted, and a rule that would be
 * weaker by it is exported as `reject` unless `weaker` says otherwise. Nothing becomes accepted there
 * that no rule here covers, but for what is beneath a repository that a rule names alone.
 */
export function exportContainersPolicy(
  policy: Policy,
  options: ExportOptions,
): Converted<ContainersPolicy> {
  const notes: string[] = [];
  const docker = new Map<string, ContainersEntry[]>();
  for (const rule of policy.rules) {
    const scope = scopeOf(rule.repository);
    const isAlone = !rule.repository.endsWith('*');
    if (isAlone) notes.push(`${scope}: there it holds for what is beneath it as well`);
    const entries = exportRule(rule, options, notes);
    const others = docker.get(scope) ?? [];
    if (others.length > 0) notes.push(`${scope}: two rules share this scope; both must be met`);
    docker.set(scope, [...others, ...entries]);
  }
  const reject = [{ type: 'reject' }] as const;
  return { policy: { default: reject, transports: { docker: Object.fromEntries(docker) } }, notes };
}

/** A scope covers the name itself and everything beneath; the empty one everything. */
function scopeOf(pattern: string): string {
  return pattern === '*' ? '' : pattern.replace(/\/\*$/, '');
}

function exportRule(
  rule: PolicyRule,
  { now, weaker }: ExportOptions,
  notes: string[],
): ContainersEntry[] {
  const { repository, images } = rule;
  const note = (text: string) => notes.push(`${repository}: ${text}`);
  const lost = lostConditions(rule);
  if (lost.length > 0) {
    note(`${lost.join(', ')} cannot be said there${weaker ? '' : '; all is rejected'}`);
    if (!weaker) return [{ type: 'reject' }];
  }
  const signers = signersOf(images);
  if (signers.some((signer) => 'identity' in signer)) note('identities are left out');
  if (signers.some((signer) => 'key' in signer && (signer.validFrom ?? signer.validUntil))) {
    note('validity of keys is that of today; export it again when it changes');
  }
  const clauses = clausesOf(images, now);
  if (clauses === undefined || clauses.some((clause) => clause.size === 0)) {
    note(clauses === undefined ? 'too many combinations; all is rejected' : 'nobody can sign it');
    return [{ type: 'reject' }];
  }
  return clauses.map(entryOf);
}

function lostConditions({ conditions, channel }: PolicyRule): string[] {
  const { annotations, platforms, allowed, denied, oldestVersion, oldestCreated } = conditions;
  const asked: [string, boolean][] = [
    ['annotations', annotations.size > 0],
    ['platforms', platforms !== undefined],
    ['allowedDigests', allowed !== undefined],
    ['deniedDigests', denied.size > 0],
    ['oldest', (oldestVersion ?? oldestCreated) !== undefined],
    ['channel', channel !== undefined],
    ['largest.imageBytes', conditions.largest.imageBytes !== undefined],
  ];
  return asked.filter(([, isAsked]) => isAsked).map(([name]) => name);
}

/** The demand as clauses that must all be met; undefined when they would be too many. */
function clausesOf(requirement: Requirement, now: Date): Clause[] | undefined {
  if ('signers' in requirement) return thresholdClauses(requirement, now);
  const isAll = 'allOf' in requirement;
  let clauses: Clause[] | undefined;
  for (const part of isAll ? requirement.allOf : requirement.anyOf) {
    const more = clausesOf(part, now);
    if (more === undefined) return undefined;
    const known: Clause[] = clauses ?? [];
    if (clauses === undefined) clauses = more;
    else if (isAll) clauses = [...known, ...more];
    else clauses = known.flatMap((one) => more.map((other) => one.union(other)));
    if (clauses.length > MAX_ENTRIES) return undefined;
  }
  return clauses;
}

/** t of n have signed exactly when of every n - t + 1 of them one has. */
function thresholdClauses(
  { signers, threshold }: Extract<Requirement, { signers: unknown }>,
  now: Date,
): Clause[] | undefined {
  const pems = signers.flatMap((one) => ('key' in one && counts(one, now) ? one.key.pem : []));
  if (pems.length < threshold) return [new Set()];
  const sets = subsets(pems, pems.length - threshold + 1);
  return sets?.map((pemsOfOne) => new Set(pemsOfOne));
}

function counts({ validFrom, validUntil }: PolicyKey, now: Date): boolean {
  return (
    !(validFrom !== undefined && now < validFrom) &&
    !(validUntil !== undefined && now >= validUntil)
  );
}

/** All subsets of a size; undefined when they are too many. */
function subsets(items: readonly string[], size: number): string[][] | undefined {
  let found: string[][] = [[]];
  const result: string[][] = [];
  for (const item of items) {
    const grown = found.map((one) => [...one, item]);
    result.push(...grown.filter((one) => one.length === size));
    found = [...found, ...grown.filter((one) => one.length < size)];
    if (result.length > MAX_ENTRIES || found.length > 4096) return undefined;
  }
  return result;
}

function entryOf(clause: Clause): ContainersEntry {
  const data = [...clause].map((pem) => Buffer.from(pem).toString('base64'));
  const signedIdentity = { type: 'matchRepository' } as const;
  const [only = ''] = data;
  if (data.length === 1) return { type: 'sigstoreSigned', keyData: only, signedIdentity };
  return { type: 'sigstoreSigned', keyDatas: data, signedIdentity };
}
