import { copyFile, lstat, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';
import { GRUB_MODULES, grubConfig } from '../boot/grub-menu.ts';
import type { Config } from '../config.ts';
import { run } from '../system/run.ts';

type Names = { readonly from: string; readonly to: string; readonly grub: string };

const NAMES: Readonly<Record<string, Names>> = {
  x64: { from: 'systemd-bootx64.efi', to: 'BOOTX64.EFI', grub: 'x86_64-efi' },
  arm64: { from: 'systemd-bootaa64.efi', to: 'BOOTAA64.EFI', grub: 'arm64-efi' },
};

/**
 * Puts a boot loader into `boot`, the folder that becomes the boot partition, where firmware looks for
 * it on a disk it does not know. It is taken from the image (`deployment`), or from the machine that
 * installs where the image has none. Throws BOOT_INVALID when neither has it.
 */
export async function addBootLoader(
  kind: NonNullable<Config['machine']>['bootLoader'],
  deployment: string,
  boot: string,
): Promise<void> {
  const names = NAMES[process.arch];
  if (names === undefined) {
    throw new SnapgateError('BOOT_INVALID', `no boot loader is known for ${process.arch}`);
  }
  const target = join(boot, 'EFI/BOOT', names.to);
  await mkdir(join(boot, 'EFI/BOOT'), { recursive: true });
  if (kind === 'grub') await addGrub(names, deployment, boot, target);
  else await addSystemdBoot(names, deployment, boot, target);
}

async function addSystemdBoot(
  names: Names,
  deployment: string,
  boot: string,
  target: string,
): Promise<void> {
  const name = join('usr/lib/systemd/boot/efi', names.from);
  const place = await firstPlace([join(deployment, name), join('/', name)]);
  if (place === undefined) {
    throw new SnapgateError('BOOT_INVALID', 'neither the image nor this machine has systemd-boot', {
      where: join('/', name),
      hint: 'Install systemd-boot (Debian: systemd-boot-efi) in the image.',
    });
  }
  await copyFile(place, target);
  await writeFile(join(boot, 'loader/loader.conf'), 'timeout 2\n');
}

/** GRUB as one program with the modules that it needs inside, and its configuration beside grubenv. */
async function addGrub(
  names: Names,
  deployment: string,
  boot: string,
  target: string,
): Promise<void> {
  const folders = ['usr/lib/grub', 'usr/share/grub2'].map((name) => join(name, names.grub));
  const modules = await firstPlace(
    [deployment, '/'].flatMap((root) => folders.map((name) => join(root, name, 'moddep.lst'))),
  );
  const program = await firstPlace(['/usr/bin/grub-mkimage', '/usr/bin/grub2-mkimage']);
  if (modules === undefined || program === undefined) {
    const missing = program === undefined ? 'grub-mkimage' : `GRUB's modules for ${names.grub}`;
    throw new SnapgateError('BOOT_INVALID', `this machine lacks ${missing}`, {
      hint: 'Install GRUB here (Debian: grub-common and grub-efi-amd64-bin).',
    });
  }
  await run(program, [
    ...['--directory', join(modules, '..'), '--format', names.grub],
    ...['--prefix', '/snapgate', '--output', target, ...GRUB_MODULES],
  ]);
  await writeFile(join(boot, 'snapgate/grub.cfg'), grubConfig());
}

/** The first of the files that is there; links are not followed, as they could lead out of the image. */
async function firstPlace(places: readonly string[]): Promise<string | undefined> {
  for (const place of places) {
    if ((await lstat(place).catch(() => undefined))?.isFile()) return place;
  }
  return undefined;
}
