import type { TLSSocket } from 'node:tls';
import type { MiddlewareHandler } from 'hono';
import { SnapgateError } from '../../shared/errors.ts';
import type { Access } from '../access/access.ts';
import type { Wish } from '../access/access-rules.ts';
import { ANONYMOUS, describeClient } from '../access/principal.ts';
import { scopeOf } from './distribution-path.ts';
import { type GatewayContext, type GatewayEnv, incomingOf } from './exchange.ts';

/** Where clients get the gateway's own tokens. */
export const TOKEN_PATH = '/_snapgate/token';

export type WithAccess = {
  /** Who may use the gateway; absent, the registry alone says who may what. */
  readonly access?: Access | undefined;
  /** The gateway's own origin as the client of a request knows it. */
  readonly originOf: (request: Request) => string;
};

/** Finds out who asks, before anything else is done for them. */
export function identifyClient(deps: WithAccess): MiddlewareHandler<GatewayEnv> {
  return async (c, next) => {
    const { access } = deps;
    if (access !== undefined) {
      await challenged(c, deps, undefined, async () => {
        c.set('client', await access.identify(shownBy(c)));
      });
      c.get('notes').client = describeClient(c.get('client') ?? ANONYMOUS);
    }
    await next();
  };
}

/**
 * Goes on only if whoever asks may do it. Throws UNAUTHORIZED, with the header that says how to log
 * in, and DENIED.
 */
export async function authorize(c: GatewayContext, deps: WithAccess, wish: Wish): Promise<void> {
  const { access } = deps;
  if (access === undefined) return;
  const client = c.get('client') ?? ANONYMOUS;
  await challenged(c, deps, wish, async () => access.check(client, wish));
}

/** Whether whoever asks may do it. */
export function isAllowed(c: GatewayContext, { access }: WithAccess, wish: Wish): boolean {
  return access === undefined || access.rules.allows(c.get('client') ?? ANONYMOUS, wish);
}

/**
 * The base of the API tells clients whether to log in. Those that did are let in, and all, where
 * there is nothing to log in with.
 */
export async function greet(c: GatewayContext, deps: WithAccess): Promise<Response> {
  const isKnown = (c.get('client') ?? ANONYMOUS).principals.length > 0;
  if (!isKnown && deps.access?.hasLogins && c.req.header('authorization') === undefined) {
    await challenged(c, deps, undefined, async () => {
      throw new SnapgateError('UNAUTHORIZED', 'authentication required', {
        hint: 'Log in to this gateway, or get an anonymous token.',
      });
    });
  }
  c.header('Docker-Distribution-Api-Version', 'registry/2.0');
  return c.json({});
}

/** What a request shows of whoever makes it. */
export function shownBy(c: GatewayContext) {
  const { socket, headers } = incomingOf(c);
  return {
    authorization: headers.authorization,
    certificate: certificateName(socket as Partial<TLSSocket>),
    address: socket.remoteAddress ?? '',
  };
}

/** Only a certificate that the server's authorities vouch for counts. */
function certificateName(socket: Partial<TLSSocket>): string | undefined {
  if (socket.authorized !== true || socket.getPeerCertificate === undefined) return undefined;
  const name: unknown = socket.getPeerCertificate().subject?.CN;
  return typeof name === 'string' ? name : undefined;
}

/** Adds to a 401 how to log in (RFC 9110; the token specification of the distribution project). */
async function challenged(
  c: GatewayContext,
  { originOf }: WithAccess,
  wish: Wish | undefined,
  step: () => Promise<void>,
): Promise<void> {
  try {
    await step();
  } catch (thrown) {
    if (thrown instanceof SnapgateError && thrown.code === 'UNAUTHORIZED') {
      c.header('WWW-Authenticate', challengeOf(originOf(c.req.raw), wish));
    }
    throw thrown;
  }
}

function challengeOf(origin: string, wish: Wish | undefined): string {
  // Programs that read metrics know passwords and no token services.
  if (wish?.action === 'metrics') return 'Basic realm="snapgate"';
  const { host } = new URL(origin);
  const scope =
    wish === undefined || !('repository' in wish) ? '' : `,scope="${scopeOf(wish).text}"`;
  return `Bearer realm="${origin}${TOKEN_PATH}",service="${host}"${scope}`;
}
