import { describe, expect, it } from 'vitest';
import { MINUTES, type VmFleet, vmSkipReason, withVmFleet } from './vm-fleet.ts';

const skip = vmSkipReason();
/** Bytes of a version that are in none before: what has to come over the line. */
const FRESH = 3 * 1024 * 1024;
const CUTS = 12;
let fleet: VmFleet;

describe('a machine whose line and power fail', () => {
  withVmFleet(skip, (made) => {
    fleet = made;
  });

  it('is installed and boots', { timeout: 60 * MINUTES }, async (context) => {
    context.skip(skip !== undefined, skip);
    await fleet.install();
    await fleet.boot('v1');
    await fleet.settled();
  });

  it('downloads over a line that is cut a dozen times', {
    timeout: 90 * MINUTES,
  }, async (context) => {
    context.skip(skip !== undefined, skip);
    await fleet.publish('v2', [], FRESH);
    fleet.proxy.cut(CUTS, { seed: 4, least: 1, most: 384 * 1024 });
    // The client goes on by itself; only a run of bad luck ends it, and then the next one goes on.
    for (let run = 0; run < CUTS + 1; run += 1) {
      const { status, json } = await fleet.snaphost('update --download-only');
      if (status === 0) break;
      expect(json.error.code).toMatch(/^UPSTREAM_/);
    }
    expect(fleet.proxy.cuts).toBe(CUTS);
    const { json } = await fleet.snaphost('status');
    expect(json.lastAttempt).toMatchObject({ result: 'downloaded', method: 'delta' });
  });

  for (const [step, word] of [
    ['building layers', 'building'],
    ['deploying', 'deploying'],
  ] as const) {
    it(`boots the old or the new version when its power goes while ${step}`, {
      timeout: 90 * MINUTES,
    }, async (context) => {
      context.skip(skip !== undefined, skip);
      const from = fleet.vm.log.length;
      await fleet.vm.type('snaphost update');
      await fleet.vm.waitFor(new RegExp(`^${word}`, 'm'), 3600, from);
      await fleet.cutPower();
      await fleet.powerOn();
      await fleet.vm.waitForShell('v[12]', 3600);
      await fleet.settled();
      expect((await fleet.vm.run('podman images --quiet')).status).toBe(0);
    });
  }

  it('finishes with the next run', { timeout: 90 * MINUTES }, async (context) => {
    context.skip(skip !== undefined, skip);
    const { status, json } = await fleet.snaphost('update');
    expect([status, json.to]).toEqual([0, fleet.digests.get('v2')]);
    if ((await fleet.running()) !== 'v2') await fleet.rebootInto('v2');
    await fleet.settled();
    expect(await fleet.deployment('v2')).toMatchObject({ state: 'good' });
    const { json: list } = await fleet.snaphost('list');
    expect(list.deployments).toHaveLength(2);
    await fleet.vm.stop();
  });
});
