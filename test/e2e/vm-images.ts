import { execFileSync } from 'node:child_process';
import { createCipheriv, createHash } from 'node:crypto';
import {
  createReadStream,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, digestFromHex, sha256 } from '../../shared/digest.ts';
import type { ContentWriter } from '../../shared/oci/content.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import { OCI_CONFIG, OCI_LAYER_TAR } from '../../shared/oci/media-types.ts';
import { type TarSpec, tarOf } from '../support/tar-of.ts';
import { putBytes, storedManifest } from '../support/tiny-image.ts';

/** A root shell on the serial line, which is how a test speaks with the machine. */
const SHELL = `[Unit]
After=multi-user.target
Conflicts=serial-getty@ttyS0.service
[Service]
Type=idle
StandardInput=tty
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
KillSignal=SIGHUP
Environment=HOME=/root TERM=dumb
ExecStart=/bin/sh -c 'echo vm-shell-ready $(cat /usr/lib/version); exec /bin/bash --norc --noediting'
`;
/** A machine under software emulation beside other work is slow: no start is given up. */
const PATIENCE = '[Manager]\nDefaultTimeoutStartSec=20min\nDefaultDeviceTimeoutSec=20min\n';
const NETWORK = '[Match]\nName=en*\n[Network]\nDHCP=yes\n';
const UNITS = '/usr/lib/systemd/system';
const WANTS = 'etc/systemd/system/multi-user.target.wants';

/** What nothing here needs, and what makes an emulated machine's start longer than all the rest. */
const IDLE_UNITS = [
  ...['serial-getty@ttyS0.service', 'getty@tty1.service', 'systemd-hwdb-update.service'],
  ...['systemd-journal-catalog-update.service', 'ldconfig.service', 'podman-restart.service'],
  ...['podman.service', 'podman.socket', 'podman-auto-update.service', 'podman-auto-update.timer'],
  ...['apt-daily.timer', 'apt-daily-upgrade.timer', 'dpkg-db-backup.timer', 'fstrim.timer'],
  ...['e2scrub_reap.service', 'e2scrub_all.timer', 'systemd-timesyncd.service'],
];

const folder = (name: string): TarSpec => ({ name: `${name}/`, type: 'directory', mode: 0o755 });
const link = (name: string, linkName: string): TarSpec => ({ name, type: 'symlink', linkName });
/** A file of an image. */
export const file = (name: string, content: string | Buffer, mode = 0o644): TarSpec => ({
  ...{ name, mode, content: Buffer.from(content) },
});

const PAYLOAD_BYTES = 6 * 1024 * 1024;

/**
 * A large file that hardly packs, and of which only the last `fresh` bytes tell versions apart: worth
 * a delta.
 */
export function payload(version: string, fresh: number): Buffer {
  const noise = (seed: string, bytes: number) => {
    const key = createHash('sha256').update(seed).digest();
    return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(bytes));
  };
  return Buffer.concat([noise('all', PAYLOAD_BYTES - fresh), noise(version, fresh)]);
}

/** The program that a unified kernel image begins with (systemd-stub(7)). */
export const STUB = '/usr/lib/systemd/boot/efi/linuxx64.efi.stub';

/** A unified kernel image of the kernel and the initrd in a root file system's tar file. */
export function unifiedKernel(base: string, kernel: string): Buffer {
  const work = mkdtempSync(join(tmpdir(), 'uki-'));
  try {
    const part = (name: string) => {
      const path = join(work, name);
      const maxBuffer = 256 * 1024 * 1024;
      const args = ['--extract', '--to-stdout', '--file', base, `./boot/${name}-${kernel}`];
      writeFileSync(path, execFileSync('tar', args, { maxBuffer }));
      return path;
    };
    const image = join(work, 'linux.efi');
    execFileSync('objcopy', [
      ...['--add-section', `.linux=${part('vmlinuz')}`, '--change-section-vma', '.linux=0x2000000'],
      ...['--add-section', `.initrd=${part('initrd.img')}`],
      ...['--change-section-vma', '.initrd=0x3000000', STUB, image],
    ]);
    return readFileSync(image);
  } finally {
    rmSync(work, { recursive: true });
  }
}

/** What every version has beside the distribution: the client, its units, the shell, the network. */
function clientLayer(client: string, units: string): TarSpec[] {
  const unit = (name: string) => readFileSync(join(units, name));
  return [
    file('usr/bin/snaphost', readFileSync(client), 0o755),
    ...['boot-complete', 'update', 'machine-id'].map((name) =>
      file(`${UNITS.slice(1)}/snaphost-${name}.service`, unit(`snaphost-${name}.service`)),
    ),
    folder(`${UNITS.slice(1)}/sysinit.target.wants`),
    link(
      `${UNITS.slice(1)}/sysinit.target.wants/snaphost-machine-id.service`,
      '../snaphost-machine-id.service',
    ),
    file(
      'usr/lib/systemd/system/emergency.service.d/50-snaphost.conf',
      unit('emergency.service.d.conf'),
    ),
    file('usr/lib/systemd/system/vm-shell.service', SHELL),
    file('usr/lib/systemd/system.conf.d/50-patience.conf', PATIENCE),
    file('usr/lib/systemd/system.conf.d/50-snaphost-watchdog.conf', unit('watchdog.conf')),
    // The kernel of cloud machines has no driver of a watchdog that the emulator knows.
    file('usr/lib/modules-load.d/softdog.conf', 'softdog\n'),
    file('etc/systemd/network/10-en.network', NETWORK),
    folder(WANTS),
    link(`${WANTS}/snaphost-boot-complete.service`, `${UNITS}/snaphost-boot-complete.service`),
    link(`${WANTS}/vm-shell.service`, `${UNITS}/vm-shell.service`),
    link(`${WANTS}/systemd-networkd.service`, `${UNITS}/systemd-networkd.service`),
    ...IDLE_UNITS.map((name) => link(`etc/systemd/system/${name}`, '/dev/null')),
  ];
}

type Layer = { readonly blob: Descriptor; readonly diffId: Digest };

/** The layers that all versions share, in a registry. */
export type BaseLayers = readonly Layer[];

/** Puts the layers that all versions share into a registry. */
export async function putBaseLayers(
  store: ContentWriter,
  paths: { readonly base: string; readonly client: string; readonly units: string },
): Promise<BaseLayers> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(paths.base)) hash.update(chunk as Buffer);
  const digest = digestFromHex(hash.digest('hex'));
  const blob = { mediaType: OCI_LAYER_TAR, digest, size: statSync(paths.base).size };
  await store.putBlob(blob, createReadStream(paths.base));
  return [{ blob, diffId: digest }, await putLayer(store, clientLayer(paths.client, paths.units))];
}

async function putLayer(store: ContentWriter, entries: readonly TarSpec[]): Promise<Layer> {
  const tar = tarOf(entries);
  return { blob: await putBytes(store, OCI_LAYER_TAR, tar), diffId: sha256(tar) };
}

/** Publishes a version: the shared layers and one of its own. Gives the digest of its manifest. */
export async function publishVersion(
  store: ContentWriter,
  base: BaseLayers,
  tag: string,
  entries: readonly TarSpec[],
): Promise<Digest> {
  const layers = [...base, await putLayer(store, entries)];
  const rootfs = { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) };
  const config = { architecture: 'amd64', os: 'linux', rootfs, config: {} };
  const stored = storedManifest({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: await putBytes(store, OCI_CONFIG, JSON.stringify(config)),
    layers: layers.map(({ blob }) => blob),
  });
  await store.putManifest(stored, tag);
  return stored.digest;
}
