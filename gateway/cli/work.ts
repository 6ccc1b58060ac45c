import { SnapgateError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import { matchesPattern } from '../../shared/policy/repository-pattern.ts';
import type { Repository } from '../../shared/registry/repository.ts';
import type { DeltaJobRequest, MakeDelta } from '../jobs/delta-jobs.ts';
import type { PlannerOptions } from '../plan/planner.ts';
import type { Metrics } from '../routes/metrics.ts';
import type { GatewayConfig } from './config.ts';
import { openSigning } from './open-signing.ts';

/** What the gateway does by itself, with its own credentials. */
export type GatewayWork = {
  readonly makeDelta: MakeDelta;
  readonly ensureSigned?: PlannerOptions['ensureSigned'];
};

export type WorkOptions = {
  readonly config: GatewayConfig;
  /** Opens a repository with the gateway's own credentials. */
  readonly own: (repository: string) => Repository;
  readonly metrics: Metrics;
  readonly log: Log;
};

/** Prepares signing and the making of deltas. Throws CONFIG_INVALID, KEY_INVALID. */
export async function openWork(options: WorkOptions): Promise<GatewayWork> {
  const signing = await openSigning(options);
  return {
    ensureSigned: (target) => signing.ensureSigned(target),
    makeDelta: async () => {
      throw new SnapgateError('DELTA_REFUSED', 'deltas are not made here yet');
    },
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
