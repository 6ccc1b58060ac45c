import { SnapgateError } from '../../shared/errors.ts';
import { MANIFEST_ACCEPT } from '../../shared/oci/media-types.ts';
import type { Repository } from '../../shared/registry/repository.ts';
import { readBody } from '../../shared/registry/transport.ts';
import type { Addresses } from '../upstream/addresses.ts';
import { answerHeaders } from '../upstream/headers.ts';
import type { Upstream, UpstreamAnswer } from '../upstream/upstream.ts';
import type { ClientAccess } from './api-request.ts';
import { scopeOf } from './distribution-path.ts';

/** Most of a refusal's body that is passed on, in bytes. */
const MAX_REFUSAL_BYTES = 16 * 1024;

export type ClientAccessOptions = {
  readonly upstream: Upstream;
  readonly addresses: Addresses;
  readonly openRepository: (name: string, authorization: string | undefined) => Repository;
  readonly originOf: (request: Request) => string;
};

/** Asks the registry itself what a client may read, with what the client sent. */
export function createClientAccess(options: ClientAccessOptions): ClientAccess {
  const { upstream, openRepository } = options;
  return {
    async open(request, repository, tagOrDigest) {
      const authorization = request.headers.get('authorization') ?? undefined;
      const path = tagOrDigest === undefined ? 'tags/list?n=1' : `manifests/${tagOrDigest}`;
      const answer = await upstream.send({
        method: 'GET',
        url: upstream.url(`/v2/${repository}/${path}`),
        headers: {
          accept: tagOrDigest === undefined ? 'application/json' : MANIFEST_ACCEPT.join(', '),
          ...(authorization === undefined ? {} : { authorization }),
        },
        signal: request.signal,
        scope: scopeOf({ action: 'pull', repository }),
      });
      if (answer.status >= 300) {
        return { refusal: await refusal(answer, repository, request, options) };
      }
      answer.body.on('error', () => {}).resume();
      return { reader: openRepository(repository, authorization) };
    },
  };
}

async function refusal(
  answer: UpstreamAnswer,
  repository: string,
  request: Request,
  { addresses, originOf }: ClientAccessOptions,
): Promise<Response> {
  if (answer.status < 400) {
    answer.body.on('error', () => {}).resume();
    throw new SnapgateError('UPSTREAM_FAILED', `the registry answered ${answer.status}`, {
      where: repository,
    });
  }
  const { bytes } = await readBody(answer.body, MAX_REFUSAL_BYTES);
  const context = { repository, origin: originOf(request) };
  const { 'content-length': _, ...kept } = addresses.rewrite(
    answerHeaders(answer.headers),
    context,
  );
  const headers = new Headers();
  for (const [name, value] of Object.entries(kept)) {
    for (const one of Array.isArray(value) ? value : [value]) headers.append(name, one);
  }
  return new Response(Buffer.from(bytes), { status: answer.status, headers });
}
