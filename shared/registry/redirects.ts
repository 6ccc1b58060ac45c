import { SnapgateError } from '../errors.ts';
import { displayUrl } from './transport.ts';

const MAX_REDIRECTS = 5;
const STATUSES = [301, 302, 303, 307, 308];

/** What an answer says, as far as it matters to redirects. */
type Redirecting<Answer> = {
  readonly location: (answer: Answer) => string | undefined;
  /** Gives up an answer whose body is not wanted. */
  readonly discard: (answer: Answer) => void | Promise<void>;
};

/**
 * Sends a request, and one that reads again to wherever it is redirected; `send` is told where. Throws
 * UPSTREAM_FAILED for redirects without end, to nowhere, or out of HTTP.
 */
export async function followRedirects<Answer extends { readonly status: number }>(
  call: { readonly method: string; readonly url: URL },
  send: (url: URL) => Promise<Answer>,
  { location, discard }: Redirecting<Answer>,
): Promise<Answer> {
  const isRead = call.method === 'GET' || call.method === 'HEAD';
  let { url } = call;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop += 1) {
    const answer = await send(url);
    const to = location(answer);
    if (!isRead || !STATUSES.includes(answer.status) || to === undefined) return answer;
    await discard(answer);
    const next = URL.parse(to, url.href);
    if (next === null || !['http:', 'https:'].includes(next.protocol)) break;
    url = next;
  }
  throw new SnapgateError('UPSTREAM_FAILED', 'the registry redirects without end or to nowhere', {
    where: displayUrl(call.url),
  });
}
