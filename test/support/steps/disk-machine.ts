import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;

/** Runs a program of this machine and gives what it prints. */
export function host(program: string, ...args: readonly string[]): string {
  const env = { ...process.env, PATH, PODMAN_IGNORE_CGROUPSV1_WARNING: '1' };
  return execFileSync(program, args, { encoding: 'utf8', env }).trim();
}

/** Files that stand for the disks of a machine: its btrfs, and its boot partition. */
export type Disks = { readonly root: string; readonly boot: string };

/**
 * A machine laid out as `snaphost install` does it, on two disks of its own: deployments and `/var` as
 * subvolumes, each deployment with an `/etc` of its own, and a boot partition. That is ext4 here, as
 * not every kernel has FAT. Disks can be copied, taken out and put in like those of a real machine.
 */
export class DiskMachine {
  /** Where the machine's `/` is while it runs. */
  readonly root: string;
  readonly base: string;
  /** The disks that are in it. */
  readonly disks: Disks;
  readonly uuid: string;
  /** Whether there is a boot loader with entries; else the default subvolume of btrfs boots. */
  readonly hasEntries: boolean;
  #loops: string[] = [];
  #mounts: string[] = [];
  /** Podman's folder for the time until the next boot. */
  readonly #runRoot: string;

  constructor({
    hasEntries = true,
    bootMiB = 32,
  }: { hasEntries?: boolean; bootMiB?: number } = {}) {
    this.hasEntries = hasEntries;
    this.base = mkdtempSync(join(tmpdir(), 'sg-'));
    this.root = join(this.base, 'm');
    this.#runRoot = join(this.base, 'run');
    this.disks = { root: join(this.base, 'root.disk'), boot: join(this.base, 'boot.disk') };
    mkdirSync(this.root);
    for (const disk of Object.values(this.disks)) writeFileSync(disk, '');
    truncateSync(this.disks.root, 1024 * 1024 * 1024);
    truncateSync(this.disks.boot, bootMiB * 1024 * 1024);
    host('mkfs.btrfs', '--quiet', this.disks.root);
    host('mkfs.ext4', '-q', this.disks.boot);
    this.uuid = host('blkid', '-s', 'UUID', '-o', 'value', this.disks.root);
    this.#mount(this.#attach(this.disks.root), this.root, 'rw');
    for (const name of ['@deployments', '@var']) {
      host('btrfs', 'subvolume', 'create', join(this.root, name));
    }
    this.stop();
  }

  get deployments(): string {
    return join(this.root, 'deployments');
  }

  /** The boot partition while the machine runs. */
  get boot(): string {
    return join(this.root, 'efi');
  }

  /** What every command of the machine needs beside its configuration. */
  config(gateway: string): object {
    return {
      ...{ gateways: [gateway], repository: 'os/image', tag: 'stable', smallestDelta: 0 },
      ...{ name: 'gateway.test/os/image', policy: join(this.base, 'policy.json') },
      ...{ graphRoot: join(this.root, 'var/lib/containers/storage'), runRoot: this.#runRoot },
      deploymentsDir: this.deployments,
      ...(this.hasEntries ? { machine: { rootUuid: this.uuid, bootUuid: '1234-ABCD' } } : {}),
    };
  }

  /** Mounts everything as the system of a deployment has it; without one, as an installer does. */
  start(deployment?: string): void {
    rmSync(this.#runRoot, { recursive: true, force: true });
    const loop = this.#attach(this.disks.root);
    // Nothing reaches the disk that the program did not ask for: what it forgot to sync is lost.
    const mount = (subvolume: string, at: string, mode = 'rw') =>
      this.#mount(loop, at, `subvol=${subvolume},${mode},commit=300`);
    if (deployment !== undefined) {
      mount(`@deployments/${deployment}`, this.root, this.hasEntries ? 'ro' : 'rw');
      if (this.hasEntries) mount(`@deployments/${deployment}/etc`, join(this.root, 'etc'));
    } else if (!this.hasEntries) mount('/', this.root);
    for (const name of ['var', 'deployments', 'efi', 'run']) {
      const place = join(this.root, name);
      if (!existsSync(place)) mkdirSync(place);
    }
    mount('@var', join(this.root, 'var'));
    mount('@deployments', this.deployments);
    this.#mount(this.#attach(this.disks.boot), this.boot, 'commit=300');
    const run = join(this.root, 'run');
    host('mount', '-t', 'tmpfs', 'tmpfs', run);
    this.#mounts.push(run);
  }

  /** Unmounts everything, once nobody uses it any more. */
  stop(): void {
    // Podman leaves its storage bind-mounted on itself.
    for (const place of this.#mounts.reverse()) host('umount', '--recursive', place);
    this.#mounts = [];
    for (const loop of this.#loops) host('losetup', '--detach', loop);
    this.#loops = [];
  }

  /** Copies the disks, or puts copies in their place; the machine is stopped. */
  static copy(from: Disks, to: Disks): void {
    for (const part of ['root', 'boot'] as const) {
      host('cp', '--sparse=always', from[part], to[part]);
    }
  }

  /** Names for a copy of the disks. */
  copyNamed(name: string): Disks {
    return { root: join(this.base, `${name}.root`), boot: join(this.base, `${name}.boot`) };
  }

  /** Runs Podman on the machine's storage. */
  podman(program: string, ...args: readonly string[]): string {
    const storage = ['--root', join(this.root, 'var/lib/containers/storage')];
    const run = ['--runroot', this.#runRoot, '--storage-driver', 'btrfs'];
    return host(program, ...storage, ...run, '--tmpdir', join(this.#runRoot, 'libpod'), ...args);
  }

  /** Takes every trace away. */
  remove(): void {
    this.stop();
    rmSync(this.base, { recursive: true, force: true });
  }

  #mount(loop: string, at: string, options: string): void {
    host('mount', '-o', options, loop, at);
    this.#mounts.push(at);
  }

  #attach(disk: string): string {
    const loop = host('losetup', '--find', '--show', disk);
    this.#loops.push(loop);
    return loop;
  }
}
