import { Hono } from 'hono';
import type { Recompression } from '../../shared/delta/machine-class.ts';
import { type Digest, isDigest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { isIndexType, LAYER_DELTA, TAR_DIFF } from '../../shared/oci/media-types.ts';
import { isTag } from '../../shared/oci/reference.ts';
import {
  type DeltaJob,
  type DeltaRequest,
  deltaRequestSchema,
  encoderReportSchema,
  planRequestSchema,
} from '../../shared/plan.ts';
import { type ClientLimits, clientOf } from '../access/client-limits.ts';
import { type DeltaJobs, finishedJob, type MadeDelta } from '../jobs/delta-jobs.ts';
import type { EncoderReports } from '../jobs/encoder-reports.ts';
import type { DeltaKey, Planner } from '../plan/planner.ts';
import { madeFormatName, readableFormats, usesEncoders } from '../plan/readable-formats.ts';
import type { RepositoryFacts, RepositoryReader } from '../plan/repository-facts.ts';
import { missingBytes } from '../plan/ways.ts';
import type { ImageFacts } from '../store/facts.ts';
import {
  addressOf,
  openFor,
  readBody,
  repositoryOf,
  type WithClientAccess,
} from './api-request.ts';
import { authorize } from './authorize.ts';
import type { GatewayContext, GatewayEnv } from './exchange.ts';

/** What the routes need. */
export type SnapgateRoutes = WithClientAccess & {
  readonly facts: RepositoryFacts;
  readonly planner: Planner;
  readonly jobs: DeltaJobs;
  /** What the gateway packs with, where it makes deltas. */
  readonly maker: Recompression;
  readonly reports: EncoderReports;
  /** How much each client may report. */
  readonly reportLimits: ClientLimits;
};

/**
 * The gateway's own API under `/v2/<name>/_snapgate/`: `POST plan`, `POST deltas`,
 * `GET deltas/<id>`, `POST encoder-reports`. A repository's parts never begin with an underscore, so
 * these paths are free.
 */
export function snapgateRoutes(deps: SnapgateRoutes): Hono<GatewayEnv> {
  const app = new Hono<GatewayEnv>();
  app.post('/v2/:name{.+}/_snapgate/plan', (c) => postPlan(c, deps));
  app.post('/v2/:name{.+}/_snapgate/deltas', (c) => postDelta(c, deps));
  app.get('/v2/:name{.+}/_snapgate/deltas/:id{[0-9a-f]+}', (c) => getDelta(c, deps));
  app.post('/v2/:name{.+}/_snapgate/encoder-reports', (c) => postReport(c, deps));
  return app;
}

async function postPlan(c: GatewayContext, deps: SnapgateRoutes): Promise<Response> {
  const repository = repositoryOf(c.req.param('name'));
  const request = await readBody(c, planRequestSchema);
  const opened = await openFor(c, deps, repository, checkReference(request.target));
  if ('refusal' in opened) return opened.refusal;
  return c.json(await deps.planner.plan(repository, request, opened.reader, c.req.raw.signal));
}

async function postDelta(c: GatewayContext, deps: SnapgateRoutes): Promise<Response> {
  const repository = repositoryOf(c.req.param('name'));
  const request = await readBody(c, deltaRequestSchema);
  const format = madeFormatName(request.format ?? TAR_DIFF, deps.maker);
  if (request.format !== undefined && deps.reports.isSuspected(repository, request.format)) {
    throw new SnapgateError('DELTA_REFUSED', 'the encoders of such machines make other bytes', {
      where: repository,
      hint: `Ask for ${LAYER_DELTA} alone.`,
    });
  }
  if (format === undefined) {
    const wanted = String(request.format).slice(0, 128);
    throw new SnapgateError('DELTA_REFUSED', `deltas of format ${wanted} are not made here`, {
      hint: `Ask for ${TAR_DIFF} or ${LAYER_DELTA}.`,
    });
  }
  const opened = await openFor(c, deps, repository, request.target);
  if ('refusal' in opened) return opened.refusal;
  const source = await findSource(c, deps, repository, request, opened.reader);
  if (source instanceof Response) return source;
  const { signal } = c.req.raw;
  const target = await readTarget(deps, repository, request.target, opened.reader, signal);
  const key = { repository, sourceConfig: source.config, target: target.manifest, format };
  const ready = await findReady(deps, opened.reader, key, signal);
  if (ready !== undefined) return answerJob(c, deps, repository, finishedJob(key, ready));
  await authorize(c, deps, { action: 'delta', repository });
  const sourceRepository = request.sourceRepository ?? repository;
  const job = deps.jobs.submit({
    ...{ ...key, sourceRepository, sourceManifest: source.manifest },
    bytes: missingBytes(target, source),
  });
  return answerJob(c, deps, repository, job);
}

/**
 * Takes a report about a delta that is there, from a client that can read it and whose class it was
 * made for. Answers 202 whatever comes of it.
 */
async function postReport(c: GatewayContext, deps: SnapgateRoutes): Promise<Response> {
  const repository = repositoryOf(c.req.param('name'));
  const client = clientOf(addressOf(c));
  deps.reportLimits.take(client);
  await authorize(c, deps, { action: 'report', repository });
  const { target, artifact, format } = await readBody(c, encoderReportSchema);
  const opened = await openFor(c, deps, repository, target);
  if ('refusal' in opened) return opened.refusal;
  const { signal } = c.req.raw;
  const deltas = await deps.facts.deltasTo(repository, opened.reader, target, signal);
  const delta = deltas.find((one) => one.artifact === artifact)?.format;
  if (
    delta === undefined ||
    !usesEncoders(delta) ||
    !readableFormats([format], deps.maker).reads(delta)
  ) {
    throw new SnapgateError('USAGE', 'the report is about no delta for such machines', {
      where: repository,
    });
  }
  deps.reports.report(repository, format, client);
  return c.body(null, 202);
}

async function getDelta(c: GatewayContext, deps: SnapgateRoutes): Promise<Response> {
  const repository = repositoryOf(c.req.param('name'));
  const { job, target } = deps.jobs.find(repository, c.req.param('id') ?? '');
  const opened = await openFor(c, deps, repository, target);
  if ('refusal' in opened) return opened.refusal;
  return answerJob(c, deps, repository, job);
}

/** 202 with where and when to ask again while a job is open; 200 once it has ended. */
function answerJob(
  c: GatewayContext,
  { jobs }: SnapgateRoutes,
  repository: string,
  job: DeltaJob,
): Response {
  c.header('Location', `/v2/${repository}/_snapgate/deltas/${job.id}`);
  c.header('Cache-Control', 'no-store');
  if (job.state === 'done' || job.state === 'failed') return c.json(job, 200);
  c.header('Retry-After', String(jobs.retryAfter(job)));
  return c.json(job, 202);
}

/** The source image, which the client must be able to read itself; or the registry's refusal. */
async function findSource(
  c: GatewayContext,
  deps: SnapgateRoutes,
  repository: string,
  request: DeltaRequest,
  targetReader: RepositoryReader,
): Promise<ImageFacts | Response> {
  const { facts } = deps;
  const { signal } = c.req.raw;
  const sourceRepository = repositoryOf(request.sourceRepository ?? repository);
  let reader = targetReader;
  if (sourceRepository !== repository) {
    const opened = await openFor(c, deps, sourceRepository, undefined);
    if ('refusal' in opened) return opened.refusal;
    reader = opened.reader;
  }
  const byConfig = await facts.imageByConfig(sourceRepository, reader, request.source, signal);
  if (byConfig === undefined) {
    return readTarget(deps, sourceRepository, request.source, reader, signal);
  }
  // What the catalogue knows may be gone by now, or out of this client's reach.
  const opened = await openFor(c, deps, sourceRepository, byConfig.manifest);
  return 'refusal' in opened ? opened.refusal : byConfig;
}

async function readTarget(
  { facts }: SnapgateRoutes,
  repository: string,
  digest: Digest,
  reader: RepositoryReader,
  signal: AbortSignal,
): Promise<ImageFacts> {
  const stored = await reader.getManifest(digest, signal);
  if (isIndexType(stored.mediaType)) {
    throw new SnapgateError('MANIFEST_INVALID', `${digest} is an index of several platforms`, {
      where: repository,
      hint: "Name the manifest of one platform's image.",
    });
  }
  return facts.imageOf(repository, reader, stored, signal);
}

async function findReady(
  { facts }: SnapgateRoutes,
  reader: RepositoryReader,
  key: DeltaKey,
  signal: AbortSignal,
): Promise<MadeDelta | undefined> {
  const deltas = await facts.deltasTo(key.repository, reader, key.target, signal);
  const found = deltas.find(
    ({ sourceConfig, format }) =>
      sourceConfig === key.sourceConfig && (format === undefined || format === key.format),
  );
  if (found === undefined) return undefined;
  try {
    // An index of referrers may still list what was deleted.
    await reader.getManifest(found.artifact, signal);
    return { digest: found.artifact, size: found.size };
  } catch (thrown) {
    if (thrown instanceof SnapgateError && thrown.code === 'MANIFEST_UNKNOWN') return undefined;
    throw thrown;
  }
}

function checkReference(text: string): string {
  if (isDigest(text) || isTag(text)) return text;
  throw new SnapgateError('REFERENCE_INVALID', `not a tag or digest: ${text.slice(0, 128)}`);
}
