import { isRegistryHost, isRepositoryName } from '../oci/reference.ts';

/**
 * Whether a text is a pattern of repositories: a name, a name followed by `/*` (everything beneath
 * it, at any depth), or `*` (everything). A name may begin with a registry's `host[:port]`.
 */
export function isRepositoryPattern(text: string): boolean {
  if (text === '*') return true;
  const name = text.endsWith('/*') ? text.slice(0, -2) : text;
  const slash = name.indexOf('/');
  if (isRepositoryName(name)) return true;
  const host = slash < 0 ? name : name.slice(0, slash);
  const rest = slash < 0 ? undefined : name.slice(slash + 1);
  if (!isRegistryHost(host)) return false;
  return rest === undefined ? text.endsWith('/*') : isRepositoryName(rest);
}

/** Whether a pattern covers a repository. Nothing but a final `*` is a wildcard. */
export function matchesPattern(pattern: string, repository: string): boolean {
  if (pattern === '*') return true;
  if (!pattern.endsWith('/*')) return pattern === repository;
  const prefix = pattern.slice(0, -1);
  return repository.startsWith(prefix) && repository.length > prefix.length;
}

/** The rule whose pattern says most about a repository: the longest that covers it. */
export function longestMatch<Rule extends { readonly repository: string }>(
  rules: readonly Rule[],
  repository: string,
): Rule | undefined {
  let best: Rule | undefined;
  for (const rule of rules) {
    if (!matchesPattern(rule.repository, repository)) continue;
    if (best === undefined || rule.repository.length > best.repository.length) best = rule;
  }
  return best;
}
