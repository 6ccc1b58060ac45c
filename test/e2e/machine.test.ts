import { describe, expect, it } from 'vitest';
import { MINUTES, type VmFleet, vmSkipReason, withVmFleet } from './vm-fleet.ts';
import { file } from './vm-images.ts';

const skip = vmSkipReason();
let fleet: VmFleet;

describe('a machine from an empty disk on', () => {
  withVmFleet(skip, (made) => {
    fleet = made;
  });

  it('is installed into a disk image', { timeout: 30 * MINUTES }, async (context) => {
    context.skip(skip !== undefined, skip);
    const { json } = await fleet.install();
    expect(json).toMatchObject({ method: 'full', to: fleet.digests.get('v1') });
  });

  it('boots, proves itself, and has a root that nobody writes to', {
    timeout: 60 * MINUTES,
  }, async (context) => {
    context.skip(skip !== undefined, skip);
    await fleet.boot('v1');
    await fleet.settled();
    expect(await fleet.running()).toBe('v1');
    const { json } = await fleet.snaphost('status');
    expect(json).toMatchObject({ rebootNeeded: false, running: { state: 'good' } });
    const { vm } = fleet;
    expect((await vm.run('ls /efi/loader/entries')).output).toMatch(/^snapgate-[0-9a-f-]+\.conf$/m);
    expect((await vm.run('touch /usr/x')).output).toMatch(/Read-only file system/);
    expect((await vm.run('touch /etc/own /var/own')).status).toBe(0);
    expect((await vm.run('cat /etc/machine-id')).output).toMatch(/^[0-9a-f]{32}$/);
  });

  it('updates by delta and boots into the new version with its own configuration', {
    timeout: 90 * MINUTES,
  }, async (context) => {
    context.skip(skip !== undefined, skip);
    await fleet.publish('v2');
    const { status, json } = await fleet.snaphost('update');
    expect(json).toMatchObject({
      ...{ from: fleet.digests.get('v1'), to: fleet.digests.get('v2'), method: 'delta' },
    });
    expect(status).toBe(0);
    expect(json.bytesDownloaded).toBeLessThan(256 * 1024);
    expect(json.peakRssBytes).toBeLessThan(192 * 1024 * 1024);
    await fleet.rebootInto('v2');
    await fleet.settled();
    expect((await fleet.vm.run('ls /etc/own /var/own')).status).toBe(0);
    const { json: state } = await fleet.snaphost('status');
    expect(state).toMatchObject({
      running: { manifest: fleet.digests.get('v2'), state: 'good' },
      rollback: { manifest: fleet.digests.get('v1') },
    });
    const { status: nothing, json: again } = await fleet.snaphost('update');
    expect([nothing, again.method]).toEqual([0, 'none']);
  });

  it('comes back from a version that cannot boot, and does not try it again', {
    timeout: 120 * MINUTES,
  }, async (context) => {
    context.skip(skip !== undefined, skip);
    const { output: kernel } = await fleet.vm.run('uname -r');
    await fleet.publish('v3', [file(`boot/initrd.img-${kernel}`, 'this is no initrd')]);
    expect((await fleet.snaphost('update')).status).toBe(0);
    await fleet.rebootInto('v2');
    await fleet.settled();
    expect(await fleet.deployment('v3')).toMatchObject({ state: 'bad' });
    const { status, json } = await fleet.snaphost('update --automatic');
    expect(json.error).toMatchObject({ code: 'POLICY_REFUSED' });
    expect(status).toBe(3);
  });

  it('comes back from a version whose health check fails, and says why', {
    timeout: 150 * MINUTES,
  }, async (context) => {
    context.skip(skip !== undefined, skip);
    const check = '#!/bin/sh\necho "the pump does not answer" >&2\nexit 1\n';
    await fleet.publish('v4', [file('usr/lib/snaphost/health.d/required.d/pump', check, 0o755)]);
    expect((await fleet.snaphost('update')).status).toBe(0);
    // Two tries, which end by themselves, then the version before.
    await fleet.rebootInto('v2');
    await fleet.settled();
    const failed = await fleet.deployment('v4');
    expect(failed.state).toBe('bad');
    expect(failed.reason).toMatch(/the pump does not answer/);
    const { json } = await fleet.snaphost('update --automatic');
    expect(json.error).toMatchObject({ code: 'POLICY_REFUSED' });
  });
});
