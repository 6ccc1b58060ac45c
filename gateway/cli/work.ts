import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import { matchesPattern } from '../../shared/policy/repository-pattern.ts';
import type { Repository } from '../../shared/registry/repository.ts';
import type { DeltaJobRequest, MakeDelta } from '../jobs/delta-jobs.ts';
import { makeDeltaInThread } from '../jobs/make-delta.ts';
import type { PlannerOptions } from '../plan/planner.ts';
import type { Metrics } from '../routes/metrics.ts';
import type { TransportOptions } from '../upstream/transport.ts';
import type { GatewayConfig } from './config.ts';
import { openSigning } from './open-signing.ts';
import type { FindCredentials } from './upstream-access.ts';

/** What the gateway does by itself, with its own credentials. */
export type GatewayWork = {
  readonly makeDelta: MakeDelta;
  readonly ensureSigned: NonNullable<PlannerOptions['ensureSigned']>;
  /** Whether images of a repository are signed as soon as they are pushed. */
  readonly isSignedAtPush: (repository: string) => boolean;
};

export type WorkOptions = {
  readonly config: GatewayConfig;
  /** Opens a repository with the gateway's own credentials. */
  readonly own: (repository: string) => Repository;
  readonly credentials: FindCredentials;
  /** How the registry is reached, for threads, which make connections of their own. */
  readonly transport: TransportOptions;
  readonly metrics: Metrics;
  readonly log: Log;
};

/** Prepares signing and the making of deltas. Throws CONFIG_INVALID, KEY_INVALID. */
export async function openWork(options: WorkOptions): Promise<GatewayWork> {
  const { config, own, credentials, transport, log } = options;
  const signing = await openSigning(options);
  const temporaryFolder = join(config.data, 'work');
  // What a stop in the middle of a delta left.
  await rm(temporaryFolder, { recursive: true, force: true });
  return {
    isSignedAtPush: (repository) => signing.isSignedAtPush(repository),
    async ensureSigned(target) {
      try {
        await signing.ensureSigned(target);
      } catch (thrown) {
        // The image may carry other signatures; whether they are enough is for the machine to say.
        const { code, message } = toSnapgateError(thrown);
        const { repository, manifest } = target;
        options.metrics.signature('image', code);
        log('warn', 'signing failed', { repository, digest: manifest, code, reason: message });
      }
    },
    makeDelta: makeDeltaInThread({
      ...{ baseUrl: config.upstream.url.href, transport, credentials, temporaryFolder },
      memoryBytes: config.deltas.memoryBytes,
      effort: config.deltas.effort,
      indexFolder: join(config.data, 'index'),
      // Signed before it can be found, so that nobody meets it without its signature.
      async publish(repository, manifest) {
        await signing.signDelta(repository, manifest);
        await own(repository).putManifest(manifest);
      },
    }),
  };
}

/** Refuses deltas of repositories for which the configuration wants none. Throws DELTA_REFUSED. */
export function checkWanted(
  { deltas }: GatewayConfig,
  { repository }: Pick<DeltaJobRequest, 'repository'>,
): void {
  if (deltas.repositories.some((pattern) => matchesPattern(pattern, repository))) return;
  throw new SnapgateError('DELTA_REFUSED', 'no deltas are made for this repository', {
    where: repository,
    hint: 'Pull the image as it is, or add the repository to deltas.repositories.',
  });
}
