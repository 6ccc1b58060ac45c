import { SnapgateError } from '../../shared/errors.ts';
import { readBody } from '../../shared/registry/transport.ts';
import type { UpstreamAnswer } from '../upstream/upstream.ts';
import { sendAnswer } from './exchange.ts';
import { clientHeaders, type Exchange, passOn } from './pass-on.ts';

/** Largest list of tags that is paged here, in bytes. */
const MAX_LIST_BYTES = 16 * 1024 * 1024;

/**
 * Lists tags (distribution specification 1.1, "Listing Tags"). A page that was asked for from a
 * registry that knows no pages, and lists everything in any order, is made here.
 */
export async function getTags(repository: string, call: Exchange): Promise<Response> {
  const answer = await passOn(call);
  const headers = clientHeaders(answer, repository, call);
  const wanted = wantedPage(call);
  const isPaged = headers.link !== undefined || call.c.req.method !== 'GET';
  if (wanted === undefined || answer.status !== 200 || isPaged) {
    return sendAnswer(call, answer, headers);
  }
  const { size, last } = wanted;
  const tags = (await readTags(answer, repository)).toSorted();
  const rest = last === undefined ? tags : tags.filter((tag) => tag > last);
  const page = rest.slice(0, size);
  const end = page.at(-1);
  if (page.length < rest.length && end !== undefined) {
    const next = new URLSearchParams({ n: String(size), last: end });
    call.c.header('Link', `</v2/${repository}/tags/list?${next}>; rel="next"`);
  }
  return call.c.json({ name: repository, tags: page });
}

/** Undefined when all is wanted. */
function wantedPage({ c }: Exchange): { size: number; last: string | undefined } | undefined {
  const n = c.req.query('n');
  const last = c.req.query('last');
  if (n === undefined && last === undefined) return undefined;
  const size = n === undefined ? Number.POSITIVE_INFINITY : Number(n);
  return Number.isNaN(size) || size < 0 ? undefined : { size, last };
}

async function readTags(answer: UpstreamAnswer, where: string): Promise<string[]> {
  const { bytes, truncated } = await readBody(answer.body, MAX_LIST_BYTES);
  if (truncated) {
    throw new SnapgateError('LIMIT_EXCEEDED', 'the list of tags is over 16 MiB', { where });
  }
  try {
    const { tags } = JSON.parse(Buffer.from(bytes).toString('utf8'));
    return Array.isArray(tags) ? tags.filter((tag) => typeof tag === 'string') : [];
  } catch (cause) {
    throw new SnapgateError('UPSTREAM_FAILED', 'the list of tags is not JSON', { where, cause });
  }
}
