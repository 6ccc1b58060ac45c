import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SnapgateError } from '../../shared/errors.ts';

/** What an image brings to boot with. Paths are those of the root that was looked through. */
export type ImageKernel =
  | {
      readonly kind: 'linux';
      readonly version: string;
      readonly linux: string;
      readonly initrd: string;
    }
  | { readonly kind: 'uki'; readonly version: string; readonly efi: string };

/** Names of an initrd beside a kernel, by distribution: Fedora, Debian, Fedora in /boot, openSUSE. */
const initrdNames = (version: string): readonly string[] => [
  `usr/lib/modules/${version}/initramfs.img`,
  `usr/lib/modules/${version}/initrd`,
  `boot/initrd.img-${version}`,
  `boot/initramfs-${version}.img`,
  `boot/initrd-${version}`,
];
const kernelNames = (version: string): readonly string[] => [
  `usr/lib/modules/${version}/vmlinuz`,
  `boot/vmlinuz-${version}`,
  `usr/lib/modules/${version}/Image`,
];
const ukiNames = (version: string): readonly string[] => [
  `usr/lib/modules/${version}/vmlinuz.efi`,
  `usr/lib/modules/${version}/${version}.efi`,
  `boot/EFI/Linux/${version}.efi`,
  `boot/EFI/Linux/linux-${version}.efi`,
];

/**
 * Finds the newest kernel of an unpacked image: a unified kernel image when there is one, else a
 * kernel with its initrd. Throws BOOT_INVALID when the image has neither.
 */
export async function findKernel(root: string): Promise<ImageKernel> {
  const versions = await readdir(join(root, 'usr/lib/modules')).catch(() => []);
  for (const version of versions.sort(compareVersions).reverse()) {
    const efi = await firstFile(root, ukiNames(version));
    if (efi !== undefined) return { kind: 'uki', version, efi };
    const linux = await firstFile(root, kernelNames(version));
    const initrd = await firstFile(root, initrdNames(version));
    if (linux !== undefined && initrd !== undefined)
      return { kind: 'linux', version, linux, initrd };
  }
  throw new SnapgateError('BOOT_INVALID', 'the image has no kernel with an initrd', {
    where: root,
    hint: 'An image that boots has a kernel and an initrd in /boot or /usr/lib/modules/VERSION.',
  });
}

/** A symbolic link is not followed: it could lead out of the image. */
async function firstFile(root: string, names: readonly string[]): Promise<string | undefined> {
  for (const name of names) {
    const path = join(root, name);
    if ((await lstat(path).catch(() => undefined))?.isFile()) return path;
  }
  return undefined;
}

/** Orders version strings: runs of digits as numbers, the rest as text. */
export function compareVersions(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}
