import { Hono } from 'hono';
import { toSnapgateError } from '../../shared/errors.ts';
import type { Catalogue } from '../store/catalogue.ts';
import type { Upstream } from '../upstream/upstream.ts';
import { authorize, identifyClient, type WithAccess } from './authorize.ts';
import type { GatewayContext, GatewayEnv } from './exchange.ts';
import type { Metrics } from './metrics.ts';

/** How long the registry may take to show that it is there, in milliseconds. */
const PROBE_MS = 3000;
/** How long a probe's result stands, so that those who ask often do not load the registry. */
const FRESH_MS = 2000;

export type HealthRoutes = WithAccess & {
  readonly upstream: Upstream;
  readonly catalogue: Catalogue;
  readonly metrics: Metrics;
};

/** `/healthz` (the process answers), `/readyz` (it can do its work), `/metrics`. */
export function healthRoutes(deps: HealthRoutes): Hono<GatewayEnv> {
  const app = new Hono<GatewayEnv>();
  const ready = readiness(deps);
  app.get('/healthz', (c) => note(c, 'health').json({ status: 'ok' }));
  app.get('/readyz', async (c) => {
    const checks = await ready();
    const isReady = Object.values(checks).every((outcome) => outcome === 'ok');
    const status = isReady ? 'ok' : 'failed';
    return note(c, 'health').json({ status, checks }, isReady ? 200 : 503);
  });
  app.get('/metrics', identifyClient(deps), async (c) => {
    const { metrics } = deps;
    await authorize(c, deps, { action: 'metrics' });
    return note(c, 'metrics').body(await metrics.text(), 200, {
      'Content-Type': metrics.contentType,
    });
  });
  return app;
}

function note(c: GatewayContext, route: string): GatewayContext {
  c.get('notes').route = route;
  return c;
}

type Checks = { readonly registry: string; readonly catalogue: string };

function readiness({ upstream, catalogue }: HealthRoutes): () => Promise<Checks> {
  let last: { readonly at: number; readonly checks: Promise<Checks> } | undefined;
  const probe = async () => ({
    registry: await outcome(() => probeRegistry(upstream)),
    catalogue: await outcome(async () => catalogue.probe()),
  });
  return () => {
    if (last === undefined || Date.now() - last.at > FRESH_MS) {
      last = { at: Date.now(), checks: probe() };
    }
    return last.checks;
  };
}

/** A registry that asks who is there is there. */
async function probeRegistry(upstream: Upstream): Promise<void> {
  const signal = AbortSignal.timeout(PROBE_MS);
  const url = upstream.url('/v2/');
  const { status, body } = await upstream.send({ method: 'GET', url, headers: {}, signal });
  body.on('error', () => {}).resume();
  if (status >= 500) throw new Error(`the registry answered ${status}`);
}

async function outcome(check: () => Promise<void>): Promise<string> {
  try {
    await check();
    return 'ok';
  } catch (thrown) {
    return toSnapgateError(thrown).message;
  }
}
