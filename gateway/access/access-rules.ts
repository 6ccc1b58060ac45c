import { SnapgateError } from '../../shared/errors.ts';
import { longestMatch } from '../../shared/policy/repository-pattern.ts';
import { type Client, describeClient, isMeant } from './principal.ts';

/** What may be done with a repository. */
export const ACTIONS = ['pull', 'push', 'delete', 'delta'] as const;
export type Action = (typeof ACTIONS)[number];

/** Who may do what in the repositories that a pattern covers; of several the longest holds. */
export type AccessRule = {
  /** `NAME`, `PREFIX/*` or `*`. */
  readonly repository: string;
  /** Who may report deltas and updates; those who may pull, when absent. */
  readonly report?: readonly string[] | undefined;
} & Readonly<Record<Action, readonly string[]>>;

export type AccessRulesOptions = {
  readonly rules: readonly AccessRule[];
  /** Who may list the names of all repositories. */
  readonly catalog: readonly string[];
  /** Who may read the metrics. */
  readonly metrics: readonly string[];
  /** Who may read the TUF repository, which names repositories and tags. */
  readonly tuf: readonly string[];
};

/** What somebody wants to do. */
export type Wish =
  | { readonly action: Action | 'report'; readonly repository: string }
  | { readonly action: 'catalog' | 'metrics' | 'tuf' };

/** Says who may do what; whatever no rule allows is refused. */
export class AccessRules {
  readonly #options: AccessRulesOptions;

  constructor(options: AccessRulesOptions) {
    this.#options = options;
  }

  /** Whether somebody may do it. Who may push may also pull, as every push reads first. */
  allows(client: Client, wish: Wish): boolean {
    return this.#allowed(wish).some((who) => isMeant(who, client));
  }

  /** Whether there is anything at all that needs no credentials. */
  get isOpenToAnyone(): boolean {
    const { rules, catalog, metrics, tuf } = this.#options;
    const all = rules.flatMap((rule) => [
      ...ACTIONS.map((action) => rule[action]),
      rule.report ?? [],
    ]);
    return [...all, catalog, metrics, tuf].some((list) => list.includes('anyone'));
  }

  /**
   * Throws UNAUTHORIZED when somebody with credentials may be allowed what an anonymous client is
   * not, and DENIED when this client is known and may not.
   */
  check(client: Client, wish: Wish): void {
    if (this.allows(client, wish)) return;
    const where = 'repository' in wish ? wish.repository : wish.action;
    if (client.principals.length === 0) {
      throw new SnapgateError('UNAUTHORIZED', `${wish.action} needs credentials`, {
        where,
        hint: 'Log in to this gateway.',
      });
    }
    throw new SnapgateError('DENIED', `${describeClient(client)} may not ${verb(wish)}`, {
      where,
      hint: "Ask for it in the access rules of the gateway's configuration.",
    });
  }

  #allowed(wish: Wish): readonly string[] {
    if (!('repository' in wish)) return this.#options[wish.action];
    const rule = longestMatch(this.#options.rules, wish.repository);
    if (rule === undefined) return [];
    const pull = [...rule.pull, ...rule.push];
    if (wish.action === 'report') return rule.report ?? pull;
    return wish.action === 'pull' ? pull : rule[wish.action];
  }
}

function verb({ action }: Wish): string {
  if (action === 'delta') return 'have deltas made here';
  if (action === 'catalog') return 'list the repositories';
  if (action === 'tuf') return 'read what tags mean';
  return action === 'metrics' ? 'read the metrics' : `${action} here`;
}
