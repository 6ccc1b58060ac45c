/** How long to wait between tries, in seconds. */
export type BackOff = { readonly first: number; readonly longest: number };

/**
 * Seconds to wait before try number `attempt` (1 is the first repetition): doubled each time up to
 * `longest`, then drawn evenly from the upper half, so that machines that failed together do not come
 * back together. What a server asked for by Retry-After is the least, within a day.
 */
export function backOffSeconds(
  attempt: number,
  { first, longest }: BackOff,
  retryAfter = 0,
  random: () => number = Math.random,
): number {
  const ceiling = Math.min(longest, first * 2 ** Math.min(attempt - 1, 40));
  const wait = ceiling * (0.5 + random() / 2);
  return Math.max(wait, Math.min(retryAfter, 24 * 3600));
}
