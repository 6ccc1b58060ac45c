import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Recompression } from '../../shared/delta/machine-class.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import { Repository } from '../../shared/registry/repository.ts';
import type { Access } from '../access/access.ts';
import { ClientLimits } from '../access/client-limits.ts';
import { ownRecompression } from '../delta/zstd-program.ts';
import { DeltaJobs } from '../jobs/delta-jobs.ts';
import { EncoderReports } from '../jobs/encoder-reports.ts';
import { PushSigning } from '../jobs/push-signing.ts';
import { Planner } from '../plan/planner.ts';
import { RepositoryFacts } from '../plan/repository-facts.ts';
import type { Gate } from '../policy/gate.ts';
import { createClientAccess } from '../routes/client-access.ts';
import { Metrics } from '../routes/metrics.ts';
import { Catalogue } from '../store/catalogue.ts';
import { Addresses } from '../upstream/addresses.ts';
import { FallbackReferrers } from '../upstream/fallback-referrers.ts';
import { RegistryLogin } from '../upstream/registry-login.ts';
import { SealedUrls } from '../upstream/sealed-url.ts';
import { createTransport } from '../upstream/transport.ts';
import { Upstream } from '../upstream/upstream.ts';
import type { GatewayConfig } from './config.ts';
import { openAccess } from './open-access.ts';
import { openGate } from './open-gate.ts';
import { type OpenedTuf, openTuf } from './open-tuf.ts';
import { startServer } from './server.ts';
import {
  type FindCredentials,
  ownRepositories,
  readCredentials,
  transportOptions,
} from './upstream-access.ts';
import { checkWanted, type GatewayWork, openWork } from './work.ts';

/** A gateway that answers. */
export type RunningGateway = {
  /** `http://ADDRESS:PORT` */
  readonly url: string;
  /** Takes no more requests, gives those under way some time to end, and frees everything. */
  close(): Promise<void>;
};

/** Starts a gateway. Throws CONFIG_INVALID, KEY_INVALID. */
export async function startGateway(config: GatewayConfig, log: Log): Promise<RunningGateway> {
  const baseUrl = config.upstream.url;
  const credentials = await readCredentials(config.upstream);
  const reached = await transportOptions(config.upstream);
  const connections = createTransport(reached);
  const metrics = new Metrics();
  const own = ownRepositories(connections.transport, baseUrl, credentials);
  const work = await openWork({
    ...{ config, own, credentials, metrics, log },
    transport: reached,
  });
  const catalogue = openCatalogue(config.data);
  const jobs = openJobs(config, work, catalogue, metrics);
  const gate = await openGate({ config, catalogue, metrics, log, work });
  const tuf = await openTuf(config, own, log);
  const maker = await ownRecompression(config.deltas.memoryBytes / 1024 ** 2);
  const opened = config.access && (await openAccess(config.access, log));
  const access = opened?.access;
  const parts = {
    config,
    log,
    metrics,
    catalogue,
    jobs,
    work,
    gate,
    tuf,
    access,
    maker,
    ...connections,
  };
  const server = await startServer(config.listen, appOptions({ ...parts, own, credentials }));
  log('info', 'listening', { url: server.url, upstream: baseUrl.origin });
  const close = async () => {
    await Promise.all([jobs.close(), tuf?.close(), server.close(config.stopTimeoutSeconds * 1000)]);
    await Promise.all([connections.close(), opened?.close()]);
    catalogue.close();
    log('info', 'stopped');
  };
  return { url: server.url, close };
}

/** A machine reports once for each update that goes wrong. */
const REPORT_LIMIT = { requestsPerSecond: 1 / 60, burst: 5 };
/** A machine tells of each attempt; many may share an address. */
const UPDATE_REPORT_LIMIT = { requestsPerSecond: 2, burst: 100 };

type Parts = ReturnType<typeof createTransport> & {
  readonly config: GatewayConfig;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly catalogue: Catalogue;
  readonly jobs: DeltaJobs;
  readonly work: GatewayWork;
  readonly gate: Gate | undefined;
  readonly tuf: OpenedTuf | undefined;
  readonly maker: Recompression;
  readonly access: Access | undefined;
  /** A repository with the gateway's own credentials, and those. */
  readonly own: (repository: string) => Repository;
  readonly credentials: FindCredentials;
};

function appOptions(parts: Parts) {
  const { config, log, metrics, catalogue, jobs, work, gate, tuf, access, transport, agent } =
    parts;
  const { own, credentials, maker } = parts;
  const baseUrl = config.upstream.url;
  const { connectTimeoutSeconds, answerTimeoutSeconds, stallTimeoutSeconds } = config.upstream;
  const upstream = new Upstream({
    ...{ agent, baseUrl, connectTimeoutMs: connectTimeoutSeconds * 1000 },
    answerTimeoutMs: answerTimeoutSeconds * 1000,
    stallTimeoutMs: stallTimeoutSeconds * 1000,
    // Whom the gateway lets in, the registry knows as the gateway.
    ...(access && { login: new RegistryLogin({ transport, baseUrl, credentials }) }),
    onAnswer: (_method, status, seconds) => metrics.upstream(status, seconds),
  });
  const addresses = new Addresses(baseUrl, new SealedUrls());
  const openRepository = (repository: string, authorization: string | undefined) =>
    access ? own(repository) : new Repository({ transport, baseUrl, repository, authorization });
  const originOf = (request: Request) => config.publicUrl?.origin ?? new URL(request.url).origin;
  const facts = new RepositoryFacts(catalogue);
  const { clientLimit } = config.listen;
  const { ensureSigned, isSignedAtPush } = work;
  const reports = new EncoderReports({
    onReport: (repository, machines, reporters) =>
      log('warn', 'encoders reported', { repository, machines, reporters }),
  });
  const planner = new Planner({
    isSuspected: (repository, format) => reports.isSuspected(repository, format),
    ...{ facts, maker, deltaState: (key, bytes) => jobs.state(key, bytes) },
    ensureSigned,
  });
  return {
    ...{ upstream, addresses, facts, catalogue, openRepository, originOf, log, metrics },
    ...{ reports, reportLimits: new ClientLimits(REPORT_LIMIT) },
    updateReportLimits: new ClientLimits(UPDATE_REPORT_LIMIT),
    clientLimits: clientLimit && new ClientLimits(clientLimit),
    pushSigning: new PushSigning({ isWanted: isSignedAtPush, ensureSigned }),
    ...{ planner, jobs, maker, gate, access, referrers: new FallbackReferrers() },
    tuf: tuf?.folder,
    clientAccess: createClientAccess({ upstream, addresses, openRepository, originOf }),
  };
}

function openJobs(
  config: GatewayConfig,
  { makeDelta }: GatewayWork,
  catalogue: Catalogue,
  metrics: Metrics,
): DeltaJobs {
  return new DeltaJobs({
    ...{ make: makeDelta, catalogue, observer: metrics.jobs },
    accept: (request) => checkWanted(config, request),
    concurrency: config.deltas.concurrency,
    maxWaiting: config.deltas.queue,
  });
}

function openCatalogue(folder: string): Catalogue {
  try {
    mkdirSync(folder, { recursive: true });
    return Catalogue.open(join(folder, 'catalogue.sqlite'));
  } catch (cause) {
    throw new SnapgateError('CONFIG_INVALID', 'data: the folder cannot be used', {
      where: folder,
      hint: 'Name a folder that the gateway may write.',
      cause,
    });
  }
}
