import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { Machine } from '../update/machine.ts';
import { findChecks, type HealthResult, requireHealthy, runChecks } from './checks.ts';

/** What `boot-complete --json` prints. */
export type BootReport = {
  /** Id of the running deployment; null when that is none. */
  readonly deployment: string | null;
  /** Whether this boot proved it. */
  readonly proved: boolean;
  readonly checks: readonly HealthResult[];
  /** Ids of deployments that used up their tries before this one was booted again. */
  readonly failed: readonly string[];
};

/**
 * Proves the running deployment after a boot: all required checks pass and, where that is configured,
 * a gateway answers. Then it is good, and its tries are no longer counted. Throws HEALTH_FAILED when
 * it does not work, with the reason kept in its record.
 */
export async function completeBoot(
  machine: Machine,
  signal?: AbortSignal,
  folders?: readonly string[],
): Promise<BootReport> {
  const { config, deployments } = machine;
  const { running } = await deployments.roles(await deployments.list());
  await keepMachineId(config.root);
  const failed = (await deployments.markFailed(running)).map(({ id }) => id);
  const checks = await runChecks(await findChecks(folders), config.health.checkSeconds, signal);
  try {
    requireHealthy(checks);
    await waitForGateway(machine, signal);
  } catch (thrown) {
    const error = toSnapgateError(thrown);
    if (running?.state === 'trying') await deployments.setState(running, 'trying', error.message);
    throw error;
  }
  const proved = running !== undefined && running.state !== 'good';
  if (proved) await deployments.setState(running, 'good');
  // What works is not left because a record cannot be written.
  if (running !== undefined) await machine.channels.raiseFloor(running.manifest).catch(() => {});
  return { deployment: running?.id ?? null, proved, checks, failed };
}

/**
 * A disk that was flashed has no machine-id yet. systemd makes one for the time until the next boot,
 * but cannot write it down itself, since /etc is mounted later than it starts. Where
 * snaphost-machine-id.service does that, nothing is left to do.
 */
async function keepMachineId(root: string): Promise<void> {
  const file = join(root, 'etc/machine-id');
  const known = (await readFile(file, 'utf8').catch(() => '')).trim();
  const made = (await readFile(join(root, 'run/machine-id'), 'utf8').catch(() => '')).trim();
  if (known === '' && /^[0-9a-f]{32}$/.test(made)) await writeFile(file, `${made}\n`);
}

async function waitForGateway(machine: Machine, signal?: AbortSignal): Promise<void> {
  const { gatewaySeconds } = machine.config.health;
  if (gatewaySeconds === 0) return;
  const deadline = performance.now() + gatewaySeconds * 1000;
  for (;;) {
    try {
      await machine.reach(signal);
      return;
    } catch (thrown) {
      const error = toSnapgateError(thrown);
      // A gateway that answers with a refusal was reached.
      if (error.exitStatus !== 5 || error.httpStatus < 500) return;
      if (performance.now() >= deadline) {
        throw new SnapgateError('HEALTH_FAILED', `no gateway within ${gatewaySeconds} s`, {
          cause: thrown,
        });
      }
      await sleep(2000, undefined, signal === undefined ? {} : { signal });
    }
  }
}
