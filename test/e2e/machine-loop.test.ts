import { execFileSync } from 'node:child_process';
import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { hasProgram } from '../support/has-program.ts';
import { temporaryFolder } from '../support/temporary-folder.ts';
import { VirtualMachine, vmMissing } from './vm.ts';

function skipReason(): string | undefined {
  if (process.env.SNAPGATE_VM !== '1') return 'takes minutes: run deploy/run test-vm';
  const missing = ['grub-mkimage', 'mformat'].find((name) => !hasProgram(name));
  return vmMissing() ?? (missing && `${missing} is not installed`);
}

/** A disk whose boot loader restarts the machine. */
function loopingDisk(folder: string): string {
  const at = (name: string) => join(folder, name);
  writeFileSync(at('grub.cfg'), 'reboot\n');
  execFileSync('grub-mkimage', [
    ...['--format', 'x86_64-efi', '--output', at('boot.efi'), '--prefix', '/'],
    ...['--config', at('grub.cfg'), 'reboot'],
  ]);
  writeFileSync(at('disk.img'), '');
  truncateSync(at('disk.img'), 64 * 1024 * 1024);
  execFileSync('mformat', ['-i', at('disk.img'), '-F', '::']);
  execFileSync('mmd', ['-i', at('disk.img'), '::/EFI', '::/EFI/BOOT']);
  execFileSync('mcopy', ['-i', at('disk.img'), at('boot.efi'), '::/EFI/BOOT/BOOTX64.EFI']);
  return at('disk.img');
}

it('a machine that only restarts is not waited for', async (ctx) => {
  const reason = skipReason();
  ctx.skip(reason !== undefined, reason);
  const disk = loopingDisk(await temporaryFolder(ctx));
  const machine = await VirtualMachine.start(disk, { memoryMiB: 256 });
  ctx.onTestFinished(() => machine.kill());
  const waiting = machine.waitFor(/a login/, 3600, 0, 2);
  await expect(waiting).rejects.toThrow(/not within 2 boots; the serial line ends:[\s\S]*GRUB/);
});
