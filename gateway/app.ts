import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { Hono, type MiddlewareHandler } from 'hono';
import { SnapgateError, toSnapgateError } from '../shared/errors.ts';
import type { ClientLimits } from './access/client-limits.ts';
import { identifyClient } from './routes/authorize.ts';
import { distributionRoutes } from './routes/distribution.ts';
import { errorAnswer } from './routes/error-answer.ts';
import {
  type GatewayContext,
  type GatewayEnv,
  incomingOf,
  type RequestNotes,
} from './routes/exchange.ts';
import { type HealthRoutes, healthRoutes } from './routes/health.ts';
import type { DistributionRoutes } from './routes/pass-on.ts';
import { type SnapgateRoutes, snapgateRoutes } from './routes/snapgate.ts';
import { tokenRoutes } from './routes/token.ts';
import { type TufRoutes, tufRoutes } from './routes/tuf.ts';
import { type UpdateReportRoutes, updateReportRoutes } from './routes/update-reports.ts';

/** Everything that the gateway's routes need. */
export type AppOptions = DistributionRoutes &
  SnapgateRoutes &
  UpdateReportRoutes &
  TufRoutes &
  HealthRoutes & {
    /** How much each client may ask; without bounds when absent. */
    readonly clientLimits?: ClientLimits | undefined;
  };

/** The gateway as one application. It alone turns errors into answers. */
export function createApp(options: AppOptions): Hono<GatewayEnv> {
  const app = new Hono<GatewayEnv>();
  app.use(async (c, next) => {
    watchRequest(c, options);
    await next();
  });
  app.route('/', healthRoutes(options));
  const limit: MiddlewareHandler<GatewayEnv> = async (c, next) => {
    options.clientLimits?.take(incomingOf(c).socket.remoteAddress ?? '');
    await next();
  };
  app.use('/v2/*', limit, identifyClient(options));
  app.use('/_snapgate/*', limit);
  app.use('/tuf/*', limit);
  app.route('/', tufRoutes(options));
  app.use('/v2/:name{.+}/_snapgate/*', async (c, next) => {
    c.get('notes').route = 'snapgate';
    await next();
  });
  app.route('/', snapgateRoutes(options));
  app.route('/', updateReportRoutes(options));
  app.route('/', tokenRoutes(options));
  app.route('/', distributionRoutes(options));
  app.notFound((c) => answerError(c, new SnapgateError('NAME_UNKNOWN', 'no such path'), options));
  app.onError((thrown, c) => answerError(c, thrown, options));
  return app;
}

/** Bytes of each connection that earlier requests account for. */
const counted = new WeakMap<object, { readonly read: number; readonly written: number }>();

/** Counts and logs a request when its answer has ended, whoever ended it. */
function watchRequest(c: GatewayContext, { metrics, log }: AppOptions): void {
  const { incoming, outgoing } = c.env;
  const notes: RequestNotes = { route: 'other' };
  c.set('notes', notes);
  const { socket } = incoming as { socket: { bytesRead: number; bytesWritten: number } };
  const before = counted.get(socket) ?? { read: 0, written: 0 };
  const start = performance.now();
  outgoing.once('close', () => {
    const { route, repository, client } = notes;
    const { method } = c.req;
    // As other servers do, 499 stands for a client that went away.
    const status = outgoing.writableFinished ? outgoing.statusCode : 499;
    const seconds = (performance.now() - start) / 1000;
    const sentBytes = socket.bytesWritten - before.written;
    const receivedBytes = socket.bytesRead - before.read;
    counted.set(socket, { read: socket.bytesRead, written: socket.bytesWritten });
    metrics.request({ route, method, status, seconds, sentBytes, receivedBytes });
    const level = route === 'health' || route === 'metrics' ? 'debug' : 'info';
    const path = c.req.path.slice(0, 512);
    log(level, 'request', {
      ...{ method, path, route, repository, client, status },
      ...{ seconds: Number(seconds.toFixed(4)), sentBytes, receivedBytes },
    });
  });
}

function answerError(c: GatewayContext, thrown: unknown, { log }: AppOptions): Response {
  const error = toSnapgateError(thrown);
  const { outgoing } = c.env;
  const { code, message, where } = error;
  if (code !== 'CANCELLED') {
    const level = error.httpStatus >= 500 ? 'warn' : 'debug';
    const cause = code === 'INTERNAL' ? String((thrown as Error).stack ?? thrown) : undefined;
    log(code === 'INTERNAL' ? 'error' : level, 'request failed', {
      code,
      reason: message,
      where,
      cause,
    });
  }
  // Nothing can be said any more once an answer has begun; the client must see that it broke off.
  if (outgoing.headersSent || outgoing.destroyed) {
    outgoing.destroy();
    return RESPONSE_ALREADY_SENT;
  }
  return errorAnswer(c, error);
}
