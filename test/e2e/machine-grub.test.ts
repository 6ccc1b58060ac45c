import { describe, expect, it } from 'vitest';
import { hasProgram } from '../support/has-program.ts';
import { MINUTES, type VmFleet, vmSkipReason, withVmFleet } from './vm-fleet.ts';
import { file } from './vm-images.ts';

const skip =
  vmSkipReason() ?? (hasProgram('grub-mkimage') ? undefined : 'grub-mkimage is not installed');
let fleet: VmFleet;

describe('a machine that boots by GRUB', () => {
  withVmFleet(skip, (made) => {
    fleet = made;
  });

  /** What GRUB's environment block says, as GRUB's own lines. */
  const environment = async () =>
    (await fleet.vm.run("grep -a '=' /efi/snapgate/grubenv")).output.split('\n').sort();

  it('is installed, boots and proves itself', { timeout: 90 * MINUTES }, async (context) => {
    context.skip(skip !== undefined, skip);
    await fleet.install('--boot-loader', 'grub', '--writable-root');
    await fleet.boot('v1');
    await fleet.settled();
    const { id, state } = await fleet.deployment('v1');
    expect(state).toBe('good');
    expect(await environment()).toEqual(['boot_success=1', `saved_entry=${id}`]);
    expect((await fleet.vm.run('touch /usr/own')).status).toBe(0);
  });

  it('comes back from a version that cannot boot, and does not try it again', {
    timeout: 120 * MINUTES,
  }, async (context) => {
    context.skip(skip !== undefined, skip);
    const { output: kernel } = await fleet.vm.run('uname -r');
    await fleet.publish('v2', [file(`boot/initrd.img-${kernel}`, 'this is no initrd')]);
    expect((await fleet.snaphost('update')).status).toBe(0);
    const from = fleet.vm.log.length;
    await fleet.rebootInto('v1');
    await fleet.settled();
    expect(fleet.vm.log.slice(from).match(/\] Kernel panic - /g)).toHaveLength(2);
    expect(await fleet.deployment('v2')).toMatchObject({ state: 'bad' });
    const { json } = await fleet.snaphost('update --automatic');
    expect(json.error).toMatchObject({ code: 'POLICY_REFUSED' });
  });

  it('updates, proves, and goes back when it is told', {
    timeout: 120 * MINUTES,
  }, async (context) => {
    context.skip(skip !== undefined, skip);
    await fleet.publish('v3');
    expect((await fleet.snaphost('update --automatic')).status).toBe(0);
    await fleet.rebootInto('v3');
    await fleet.settled();
    const { id, state } = await fleet.deployment('v3');
    expect(state).toBe('good');
    expect(await environment()).toEqual(['boot_success=1', `saved_entry=${id}`]);
    expect((await fleet.snaphost('rollback')).status).toBe(0);
    await fleet.rebootInto('v1');
    await fleet.vm.stop();
  });
});
