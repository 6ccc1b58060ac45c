import { SnapgateError } from '../../shared/errors.ts';
import type { Deployment } from './deployment.ts';
import type { Deployments } from './deployments.ts';

/** What `rollback --json` prints: ids of deployments. */
export type RollbackReport = {
  /** What would have booted; null when that was no deployment. */
  readonly from: string | null;
  /** What boots now; null for the system that was there before the first deployment. */
  readonly to: string | null;
  /** Id of the subvolume that boots now. */
  readonly subvolume: number;
};

/**
 * Makes the machine boot what it booted before, or the deployment `id`. What is left is marked as bad,
 * so that no timer brings it back, and before the switch: cut in between, the same command goes the
 * same way again. Throws NOTHING_TO_DO.
 */
export async function rollBack(
  deployments: Pick<Deployments, 'list' | 'roles' | 'switchTo' | 'switchToOrigin' | 'setState'>,
  id?: string,
): Promise<RollbackReport> {
  const all = await deployments.list();
  const { next, rollback } = await deployments.roles(all);
  const target = id === undefined ? rollback : find(all, id);
  if (target !== undefined && target.id === next?.id) {
    throw new SnapgateError('NOTHING_TO_DO', `${target.id} boots next already`);
  }
  if (target === undefined && next === undefined) {
    throw new SnapgateError('NOTHING_TO_DO', 'there is no deployment to go back from', {
      hint: 'snaphost list shows what there is.',
    });
  }
  if (next !== undefined) await deployments.setState(next, 'bad', 'gone back from by hand');
  try {
    let subvolume = target?.subvolume ?? 0;
    if (target === undefined) subvolume = await deployments.switchToOrigin();
    else await deployments.switchTo(target);
    return { from: next?.id ?? null, to: target?.id ?? null, subvolume };
  } catch (thrown) {
    if (next !== undefined) await deployments.setState(next, next.state, next.reason);
    throw thrown;
  }
}

/**
 * After a boot that did not prove the running deployment: says whether to boot again. Where a boot
 * loader counts tries it does the rest; where nothing counts, this was the only try, and the machine
 * goes back now. What was proved before stays: it is not the version that is at fault.
 */
export async function leaveFailed(
  deployments: Pick<
    Deployments,
    'countsTries' | 'list' | 'roles' | 'switchTo' | 'switchToOrigin' | 'setState'
  >,
  reason: string,
): Promise<boolean> {
  const { running, next } = await deployments.roles(await deployments.list());
  if (running?.state !== 'trying') return false;
  if (deployments.countsTries || next?.id !== running.id) return true;
  await rollBack(deployments);
  await deployments.setState(running, 'bad', reason);
  return true;
}

function find(all: readonly Deployment[], id: string): Deployment {
  const found = all.find((one) => one.id === id);
  if (found !== undefined) return found;
  throw new SnapgateError('NOTHING_TO_DO', `there is no deployment ${id}`, {
    hint: 'snaphost list shows what there is.',
  });
}
