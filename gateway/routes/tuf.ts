import { Hono } from 'hono';
import { fileTag } from '../../shared/tuf/metadata.ts';
import type { TufFolder } from '../tuf/folder.ts';
import { authorize, identifyClient, type WithAccess } from './authorize.ts';
import type { GatewayContext, GatewayEnv } from './exchange.ts';

export type TufRoutes = WithAccess & {
  /** The repository that is served; none when absent. */
  readonly tuf?: TufFolder | undefined;
};

/**
 * The TUF repository under `/tuf/metadata/` and `/tuf/targets/`, as any TUF client reads it. It is
 * served to everybody whom the access rules let, also when the gate enforces: it is signed, and says nothing but which digest
 * a tag stands for. Answers are as short as they can be, as machines ask for the same two files again
 * and again.
 */
export function tufRoutes(deps: TufRoutes): Hono<GatewayEnv> {
  const app = new Hono<GatewayEnv>();
  const { tuf } = deps;
  app.use('/tuf/*', identifyClient(deps), async (c, next) => {
    c.get('notes').route = 'tuf';
    await authorize(c, deps, { action: 'tuf' });
    await next();
  });
  app.get('/tuf/metadata/:file', async (c) =>
    answer(c, await tuf?.metadata(c.req.param('file')), 'application/json'),
  );
  app.get('/tuf/targets/:name{.+}', async (c) =>
    answer(c, await tuf?.target(c.req.param('name')), 'application/octet-stream'),
  );
  return app;
}

function answer(c: GatewayContext, bytes: Buffer | undefined, type: string): Response {
  // The next root that is not there yet must not be remembered as missing by whatever is between.
  c.header('Cache-Control', 'no-cache');
  if (bytes === undefined) return c.body(null, 404);
  const tag = `"${fileTag(bytes)}"`;
  c.header('ETag', tag);
  const known = c.req.header('if-none-match') ?? '';
  if (known.split(',').some((one) => one.trim().replace(/^W\//, '') === tag)) {
    return c.body(null, 304);
  }
  return c.body(new Uint8Array(bytes), 200, { 'Content-Type': type });
}
