import { mkdir, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Outcome, RunOptions, Stage } from './stage.ts';

/** A btrfs file system in a file, mounted: the disk of a machine that runs Podman. */
export class Machine {
  /** Where its root is mounted. */
  readonly root: string;
  /** Podman's graph root and run root. */
  readonly graphRoot: string;
  readonly runRoot: string;
  /** What Podman needs in its environment to share nothing with this machine's own. */
  readonly env: Readonly<Record<string, string>>;
  readonly #stage: Stage;
  readonly #device: string;

  private constructor(stage: Stage, name: string, device: string, runRoot: string) {
    this.#stage = stage;
    this.#device = device;
    this.root = stage.path(name);
    this.graphRoot = join(this.root, 'var/lib/containers/storage');
    this.runRoot = runRoot;
    this.env = { CONTAINERS_CONF: join(runRoot, 'containers.conf') };
  }

  /** Makes the disk (sparse, `bytes` long) and mounts it. Needs root. */
  static async build(stage: Stage, name: string, bytes: number): Promise<Machine> {
    const disk = stage.path(`${name}.disk`);
    await writeFile(disk, '');
    await truncate(disk, bytes);
    await stage.run(['mkfs.btrfs', '--quiet', '--label', name, disk]);
    const device = (await stage.run(['losetup', '--find', '--show', disk])).out.trim();
    stage.laterRun('losetup', '--detach', device);
    // Podman takes no run root of more than 50 characters.
    const runRoot = await mkdtemp('/run/snapgate-');
    stage.later(`rm -r ${runRoot}`, () => rm(runRoot, { recursive: true }), 'place');
    const machine = new Machine(stage, name, device, runRoot);
    await mkdir(machine.root);
    await stage.run(['mount', device, machine.root]);
    stage.laterRun('umount', '-R', machine.root);
    // As machines have it: what is in there is not written to the disk.
    await mkdir(join(machine.root, 'run'));
    await stage.run(['mount', '-t', 'tmpfs', 'tmpfs', join(machine.root, 'run')]);
    await mkdir(machine.graphRoot, { recursive: true });
    const conf = `[engine]\ntmp_dir = "${runRoot}/libpod"\n`;
    await writeFile(join(runRoot, 'containers.conf'), conf);
    return machine;
  }

  /** Runs Podman on this machine's storage. */
  podman(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    const storage = ['--root', this.graphRoot, '--runroot', this.runRoot];
    const ways = ['--storage-driver', 'btrfs', '--cgroup-manager', 'cgroupfs', '--runtime', 'runc'];
    return this.#stage.run(['podman', ...storage, ...ways, ...args], { env: this.env, ...options });
  }

  /** Runs a command in a container of an image of this machine, without network. */
  runIn(image: string, command: readonly string[]): Promise<Outcome> {
    const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=4096:4096'];
    return this.podman(['run', '--rm', '--network', 'none', ...limits, image, ...command]);
  }

  /** Path of the subvolume that the machine would boot, `/` when none was chosen. */
  async bootsNext(): Promise<string> {
    const { out } = await this.#stage.run(['btrfs', 'subvolume', 'get-default', this.root]);
    return / path (.+)$/m.exec(out)?.[1] ?? '/';
  }

  /** Bytes written to the disk so far, as the kernel counts them, after all is written out. */
  async bytesWritten(): Promise<number> {
    await this.#stage.run(['btrfs', 'filesystem', 'sync', this.root]);
    const stat = await readFile(`/sys/block/${basename(this.#device)}/stat`, 'utf8');
    // Documentation/block/stat: the seventh field counts sectors of 512 bytes.
    return Number(stat.trim().split(/\s+/)[6]) * 512;
  }
}
