import type { BaseIssue } from 'valibot';

type Issue = BaseIssue<unknown>;

/** Whether an issue is about a field that nothing knows. */
export function isUnknownField(issue: Issue): boolean {
  return issue.type === 'strict_object' && issue.expected === 'never';
}

/** The issue to tell of: who misspells a field wants to hear of that, not that another is missing. */
export function firstIssue<One extends Issue>(issues: readonly [One, ...One[]]): One {
  return issues.find(isUnknownField) ?? issues[0];
}
