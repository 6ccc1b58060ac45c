import { describe, expect, it } from 'vitest';
import { type Deployment, nextDeploymentId } from '../../../host-client/deploy/deployment.ts';
import type { Roles } from '../../../host-client/deploy/deployments.ts';
import { leaveFailed, rollBack } from '../../../host-client/deploy/roll-back.ts';
import { deploymentsToKeep } from '../../../host-client/update/collect-garbage.ts';
import { sha256 } from '../../../shared/digest.ts';

function deployment(id: string, more: Partial<Deployment> = {}): Deployment {
  return {
    ...{ version: 1, id, image: 'gateway.test/os:stable', manifest: sha256(id) },
    ...{ config: sha256(`config ${id}`), created: '2026-01-01T00:00:00Z', state: 'good' },
    ...{ pinned: false, path: `/deployments/${id}`, subvolume: 256 + id.length },
    ...more,
  };
}

const [old, now, bad] = [
  deployment('old'),
  deployment('newer'),
  deployment('broken', { state: 'bad' }),
];

function fake(all: readonly Deployment[], roles: Partial<Roles>) {
  const calls: string[] = [];
  return {
    calls,
    list: async () => [...all],
    roles: async () => ({ running: undefined, next: undefined, rollback: undefined, ...roles }),
    switchTo: async ({ id }: Deployment) => void calls.push(`switch ${id}`),
    async switchToOrigin() {
      calls.push('origin');
      return 300;
    },
    setState: async ({ id }: Deployment, state: string) => void calls.push(`${id} is ${state}`),
  };
}

describe('a rollback', () => {
  it('marks what it leaves, and then switches', async () => {
    const deployments = fake([now, old], { next: now, rollback: old });
    const report = await rollBack(deployments);
    expect(report).toEqual({ from: 'newer', to: 'old', subvolume: old.subvolume });
    expect(deployments.calls).toEqual(['newer is bad', 'switch old']);
  });

  it('leaves the marks as they were when the switch fails', async () => {
    const deployments = fake([now], { next: now });
    const switchToOrigin = () => Promise.reject(new Error('nowhere'));
    await expect(rollBack({ ...deployments, switchToOrigin })).rejects.toThrow('nowhere');
    expect(deployments.calls).toEqual(['newer is bad', 'newer is good']);
  });

  it('goes where it is told, also to what is bad', async () => {
    const deployments = fake([now, old, bad], { next: now, rollback: old });
    expect(await rollBack(deployments, 'broken')).toMatchObject({ to: 'broken' });
  });

  it('goes back to the system before the first deployment', async () => {
    const deployments = fake([now], { next: now });
    expect(await rollBack(deployments)).toEqual({ from: 'newer', to: null, subvolume: 300 });
  });

  it.for([
    ['what boots next already', [now, old], { next: now, rollback: old }, 'newer'],
    ['a deployment that is not there', [now, old], { next: now, rollback: old }, 'other'],
    ['anything without a deployment', [], {}, undefined],
  ] as const)('does not go to %s', async ([, all, roles, id]) => {
    const deployments = fake(all, roles);
    await expect(rollBack(deployments, id)).rejects.toMatchObject({ code: 'NOTHING_TO_DO' });
    expect(deployments.calls).toEqual([]);
  });
});

describe('deployments', () => {
  it('get ids that tell snapshots of one image apart', () => {
    const config = sha256('image');
    const hex = config.slice(7, 19);
    expect(nextDeploymentId(config, [])).toBe(`${hex}-1`);
    const existing = [{ id: `${hex}-9` }, { id: `${hex}-10` }, { id: 'other-77' }];
    expect(nextDeploymentId(config, existing)).toBe(`${hex}-11`);
  });

  it('are kept when they run, boot next, are gone back to or are pinned', () => {
    const pinned = deployment('pinned', { pinned: true, state: 'bad' });
    const spare = ['s1', 's2', 's3'].map((id) => deployment(id));
    const all = [now, bad, ...spare, old, pinned];
    const roles = { running: old, next: now, rollback: spare[2] };
    expect([...deploymentsToKeep(all, roles, 0)].sort()).toEqual(['newer', 'old', 'pinned', 's3']);
    expect(deploymentsToKeep(all, roles, 1).has('s1')).toBe(true);
    expect(deploymentsToKeep(all, roles, 1).has('s2')).toBe(false);
    expect(deploymentsToKeep(all, roles, 100).has('broken')).toBe(false);
  });
});

describe('a version that was not proved', () => {
  const trying = deployment('newer', { state: 'trying' });
  const all = [trying, old];
  const roles = { running: trying, next: trying, rollback: old };

  it('boots again where tries are counted', async () => {
    const deployments = { ...fake(all, roles), countsTries: true };
    expect(await leaveFailed(deployments, 'no pump')).toBe(true);
    expect(deployments.calls).toEqual([]);
  });

  it('is left at once where nothing counts', async () => {
    const deployments = { ...fake(all, roles), countsTries: false };
    expect(await leaveFailed(deployments, 'no pump')).toBe(true);
    expect(deployments.calls).toEqual(['newer is bad', 'switch old', 'newer is bad']);
  });

  it('stays when it was proved before, and when there is nothing else', async () => {
    const proved = { ...fake([now, old], { ...roles, running: now }), countsTries: false };
    expect(await leaveFailed(proved, 'no pump')).toBe(false);
    expect(proved.calls).toEqual([]);
    const alone = fake([trying], { running: trying, next: trying });
    const switchToOrigin = () => Promise.reject(new Error('nowhere'));
    const deployments = { ...alone, switchToOrigin, countsTries: false };
    await expect(leaveFailed(deployments, 'no pump')).rejects.toThrow('nowhere');
  });

  it('are kept while somebody may be at work on them', () => {
    const made = deployment('made', { state: 'staged', boot: 'this boot' });
    const left = deployment('left', { state: 'staged', boot: 'another boot' });
    const chosen = deployment('chosen', { state: 'trying', boot: 'this boot' });
    const roles = { running: old, next: now, rollback: undefined };
    const kept = deploymentsToKeep([made, left, chosen, now, old], roles, 0, 'this boot');
    expect([...kept].sort()).toEqual(['made', 'newer', 'old']);
    expect(deploymentsToKeep([made, now, old], roles, 0).has('made')).toBe(false);
  });
});
