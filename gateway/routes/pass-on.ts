import type { Log } from '../../shared/log.ts';
import type { Repository } from '../../shared/registry/repository.ts';
import type { PushSigning } from '../jobs/push-signing.ts';
import type { RepositoryFacts } from '../plan/repository-facts.ts';
import type { Gate } from '../policy/gate.ts';
import type { Catalogue } from '../store/catalogue.ts';
import type { Addresses } from '../upstream/addresses.ts';
import type { FallbackReferrers } from '../upstream/fallback-referrers.ts';
import { answerHeaders, type OutgoingHeaders } from '../upstream/headers.ts';
import type { RegistryScope } from '../upstream/registry-login.ts';
import type { Upstream, UpstreamAnswer } from '../upstream/upstream.ts';
import type { WithAccess } from './authorize.ts';
import type { GatewayContext } from './exchange.ts';

/** What the routes of the distribution API need. */
export type DistributionRoutes = WithAccess & {
  readonly upstream: Upstream;
  readonly addresses: Addresses;
  readonly facts: RepositoryFacts;
  readonly catalogue: Catalogue;
  readonly referrers: FallbackReferrers;
  /**
   * A repository of the registry as a client may see it, whose Authorization header is given. Where
   * the gateway itself lets clients in, it is seen with the gateway's own credentials.
   */
  readonly openRepository: (name: string, authorization: string | undefined) => Repository;
  /** What decides which images are served; absent, all are. */
  readonly gate?: Gate | undefined;
  /** What has images signed as they are pushed. */
  readonly pushSigning: PushSigning;
  readonly log: Log;
};

/** One request on its way to the registry. */
export type Exchange = {
  readonly c: GatewayContext;
  readonly deps: DistributionRoutes;
  readonly url: URL;
  readonly headers: OutgoingHeaders;
  readonly body: AsyncIterable<Uint8Array> | undefined;
  readonly signal: AbortSignal;
  readonly scope: RegistryScope | undefined;
};

/** Sends a request to the registry as it came. */
export function passOn(call: Exchange, direct = false): Promise<UpstreamAnswer> {
  const { c, deps, url, headers, body, signal, scope } = call;
  return deps.upstream.send({ method: c.req.method, url, headers, body, signal, direct, scope });
}

/** The headers of an answer as the client gets them. */
export function clientHeaders(
  answer: UpstreamAnswer,
  repository: string | undefined,
  { c, deps }: Exchange,
): OutgoingHeaders {
  const origin = deps.originOf(c.req.raw);
  return deps.addresses.rewrite(answerHeaders(answer.headers), { repository, origin });
}
