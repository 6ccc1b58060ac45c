import { Hono } from 'hono';
import type { Log } from '../../shared/log.ts';
import { type SentReport, updateReportsSchema } from '../../shared/update-reports.ts';
import { type ClientLimits, clientOf } from '../access/client-limits.ts';
import {
  addressOf,
  openFor,
  readBody,
  repositoryOf,
  type WithClientAccess,
} from './api-request.ts';
import { authorize } from './authorize.ts';
import type { GatewayContext, GatewayEnv } from './exchange.ts';
import type { Metrics } from './metrics.ts';

/** Most reports whose ids are remembered, so that one that comes twice counts once. */
const MAX_REMEMBERED = 10_000;

/** What the route needs. */
export type UpdateReportRoutes = WithClientAccess & {
  readonly metrics: Pick<Metrics, 'updateReport'>;
  readonly log: Log;
  /** How often each client may report. */
  readonly updateReportLimits: ClientLimits;
};

/**
 * `POST /v2/<name>/_snapgate/reports`: what machines say of their updates, from clients that may report.
 * Each report is counted and written to the log, and nothing else comes of it.
 */
export function updateReportRoutes(deps: UpdateReportRoutes): Hono<GatewayEnv> {
  const app = new Hono<GatewayEnv>();
  const seen = new Set<string>();
  app.post('/v2/:name{.+}/_snapgate/reports', (c) => postReports(c, deps, seen));
  return app;
}

async function postReports(
  c: GatewayContext,
  deps: UpdateReportRoutes,
  seen: Set<string>,
): Promise<Response> {
  const repository = repositoryOf(c.req.param('name'));
  deps.updateReportLimits.take(clientOf(addressOf(c)));
  await authorize(c, deps, { action: 'report', repository });
  const { reports } = await readBody(c, updateReportsSchema);
  const opened = await openFor(c, deps, repository, undefined);
  if ('refusal' in opened) return opened.refusal;
  for (const report of reports) {
    if (seen.has(report.id)) continue;
    seen.add(report.id);
    const [oldest] = seen;
    if (seen.size > MAX_REMEMBERED && oldest !== undefined) seen.delete(oldest);
    note(deps, repository, report);
  }
  return c.body(null, 202);
}

function note({ metrics, log }: UpdateReportRoutes, repository: string, report: SentReport): void {
  const { result, method, error, bytes, fullBytes, seconds, fallbackReason } = report;
  metrics.updateReport({ result, method, error, bytes, seconds, fellBack: !!fallbackReason });
  const { machine, client, tag, from, to, time: began } = report;
  log('info', 'update reported', {
    ...{ repository, machine, client, tag, from, to, began, result, method },
    ...{ bytes, fullBytes, seconds, error, fallbackReason },
  });
}
