import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { hasProgram } from '../support/has-program.ts';
import { MINUTES, type VmFleet, vmSkipReason, withVmFleet } from './vm-fleet.ts';
import { file, STUB } from './vm-images.ts';

const skip =
  vmSkipReason() ??
  (hasProgram('objcopy') && existsSync(STUB) ? undefined : 'needs objcopy and systemd-stub');
let fleet: VmFleet;

describe('a machine whose new version hangs', () => {
  withVmFleet(skip, (made) => {
    fleet = made;
  });

  it('has its watchdog fed', { timeout: 60 * MINUTES }, async (context) => {
    context.skip(skip !== undefined, skip);
    await fleet.install();
    await fleet.boot('v1');
    await fleet.settled();
    const { output } = await fleet.vm.run('wdctl --noheadings --oneline');
    expect(output).toMatch(/Software Watchdog.*TIMEOUT="60"/);
  });

  it('boots its unified kernel image, hangs, and comes back by its watchdog', {
    timeout: 120 * MINUTES,
  }, async (context) => {
    context.skip(skip !== undefined, skip);
    // systemd freezes when it gets this signal, and feeds the watchdog no more.
    const check = '#!/bin/sh\necho v2 hangs now >/dev/console\nkill -SEGV 1\nexec sleep infinity\n';
    await fleet.publish('v2', [
      file('usr/lib/snaphost/health.d/required.d/hang', check, 0o755),
      await fleet.unifiedKernel(),
    ]);
    expect((await fleet.snaphost('update')).status).toBe(0);
    const { output } = await fleet.vm.run('grep -h ^efi /efi/loader/entries/*');
    expect(output).toMatch(/^efi \/snapgate\/\S+-linux\.efi$/);
    const from = fleet.vm.log.length;
    await fleet.rebootInto('v1');
    await fleet.settled();
    expect(fleet.vm.log.slice(from).match(/v2 hangs now/g)).toHaveLength(2);
    expect(await fleet.deployment('v2')).toMatchObject({ state: 'bad' });
  });

  it('frees what it no longer needs', { timeout: 60 * MINUTES }, async (context) => {
    context.skip(skip !== undefined, skip);
    const ours = async (folder: string) =>
      (await fleet.vm.run(`ls -1 /efi/${folder}`)).output.split('\n');
    expect(await ours('loader/entries')).toHaveLength(2);
    expect(await ours('snapgate')).toHaveLength(3);
    const { json } = await fleet.snaphost('gc --keep 0');
    expect(json).toMatchObject({ keptDeployments: [expect.any(String)] });
    expect(json.removedDeployments).toHaveLength(1);
    expect(json.removedImages).toEqual([expect.any(String)]);
    expect(await ours('loader/entries')).toHaveLength(1);
    // The kernel and the initrd of what stays.
    expect(await ours('snapgate')).toHaveLength(2);
    await fleet.vm.stop();
  });
});
