import { Hono } from 'hono';
import { SnapgateError } from '../../shared/errors.ts';
import { basicHeader } from '../../shared/registry/authenticator.ts';
import { readBody } from '../../shared/registry/transport.ts';
import type { Access } from '../access/access.ts';
import { shownBy, TOKEN_PATH, type WithAccess } from './authorize.ts';
import { type GatewayContext, type GatewayEnv, requestBody } from './exchange.ts';

/** Largest form read, in bytes. */
const MAX_FORM = 64 * 1024;

/**
 * The token service of a gateway that lets clients in itself: `GET` with a password in the
 * Authorization header or none, `POST` with a password or a token in a form (token and OAuth 2
 * specifications of the distribution project). A token says who somebody is; what is allowed is
 * looked up with each request.
 */
export function tokenRoutes({ access }: WithAccess): Hono<GatewayEnv> {
  const app = new Hono<GatewayEnv>();
  if (access === undefined) return app;
  app.get(TOKEN_PATH, (c) => answer(c, access, shownBy(c).authorization));
  app.post(TOKEN_PATH, async (c) => answer(c, access, await readForm(c)));
  return app;
}

async function answer(
  c: GatewayContext,
  access: Access,
  authorization: string | undefined,
): Promise<Response> {
  c.get('notes').route = 'token';
  c.header('Cache-Control', 'no-store');
  try {
    const { address } = shownBy(c);
    const { token, expiresIn, issuedAt } = await access.issue({ authorization, address });
    return c.json({
      ...{ token, access_token: token, expires_in: expiresIn },
      issued_at: issuedAt.toISOString(),
    });
  } catch (thrown) {
    if (thrown instanceof SnapgateError && thrown.code === 'UNAUTHORIZED') {
      c.header('WWW-Authenticate', 'Basic realm="snapgate"');
    }
    throw thrown;
  }
}

/** What a form shows, as an Authorization header would. Throws UNSUPPORTED, LIMIT_EXCEEDED. */
async function readForm(c: GatewayContext): Promise<string> {
  const { bytes, truncated } = await readBody(requestBody(c) ?? [], MAX_FORM);
  if (truncated) throw new SnapgateError('LIMIT_EXCEEDED', 'the form is too large');
  const form = new URLSearchParams(Buffer.from(bytes).toString('utf8'));
  const type = form.get('grant_type');
  if (type === 'password') {
    return basicHeader(form.get('username') ?? '', form.get('password') ?? '');
  }
  if (type === 'refresh_token') return `Bearer ${form.get('refresh_token')}`;
  throw new SnapgateError('UNSUPPORTED', 'grants are of type password or refresh_token');
}
