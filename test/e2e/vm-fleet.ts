import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll } from 'vitest';
import { type CuttingProxy, startCuttingProxy } from '../support/cutting-proxy.ts';
import { type Fleet, fleetSkipReason, IMAGE_NAME, startFleet } from '../support/fleet.ts';
import { hasProgram } from '../support/has-program.ts';
import { runProgramFile } from '../support/run-program.ts';
import type { TarSpec } from '../support/tar-of.ts';
import { VirtualMachine, vmMissing } from './vm.ts';
import {
  type BaseLayers,
  file,
  payload,
  publishVersion,
  putBaseLayers,
  unifiedKernel,
} from './vm-images.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CACHE = join(ROOT, '.cache/vm');
/** Milliseconds. Generous: an emulated machine beside other work is slow, and time decides nothing. */
export const MINUTES = 60_000;

/** Why no machine can be installed and booted here; undefined when one can. */
export function vmSkipReason(): string | undefined {
  if (process.env.SNAPGATE_VM !== '1') return 'takes minutes: run deploy/run test-vm';
  const missing = ['mmdebstrap', 'mformat', 'sfdisk'].find((name) => !hasProgram(name));
  return vmMissing() ?? fleetSkipReason() ?? (missing && `${missing} is not installed`);
}

/** Whether the client was not built yet, or what it is built of has changed since. */
function isStale(client: string): boolean {
  if (!existsSync(client)) return true;
  const sources = ['host-client', 'shared', 'deploy', 'package-lock.json'];
  const args = [...sources, '-newer', client, '-print', '-quit'];
  return execFileSync('find', args, { cwd: ROOT }).length > 0;
}

// biome-ignore lint/suspicious/noExplicitAny: tests look into whatever a command prints.
type Answer = { readonly status: number; readonly json: any };

/**
 * A registry, a gateway, and one virtual machine that is installed from them and updates through
 * them, over a line that can be cut.
 */
export class VmFleet {
  readonly folder: string;
  readonly disk: string;
  readonly proxy: CuttingProxy;
  /** Digests of the manifests that were published, by the names of the versions. */
  readonly digests = new Map<string, string>();
  readonly #fleet: Fleet;
  readonly #base: BaseLayers;
  #vm: VirtualMachine | undefined;

  private constructor(folder: string, fleet: Fleet, base: BaseLayers, proxy: CuttingProxy) {
    this.folder = folder;
    this.disk = join(folder, 'disk.img');
    this.#fleet = fleet;
    this.#base = base;
    this.proxy = proxy;
  }

  /** Builds what is not built yet, and starts everything but the machine. */
  static async start(): Promise<VmFleet> {
    const base = join(CACHE, 'base.tar');
    execFileSync(join(ROOT, 'test/e2e/base-image'), [base], { stdio: 'inherit' });
    if (isStale(join(CACHE, 'snaphost'))) {
      const build = join(ROOT, 'deploy/package/build.ts');
      execFileSync(process.execPath, [build, CACHE], { stdio: 'inherit' });
    }
    const folder = await mkdtemp(join(tmpdir(), 'snapgate-vm-'));
    const fleet = await startFleet();
    await writeFile(join(folder, 'policy.json'), JSON.stringify(fleet.policy));
    const paths = { base, client: join(CACHE, 'snaphost'), units: join(ROOT, 'deploy/systemd') };
    const layers = await putBaseLayers(fleet.repository, paths);
    return new VmFleet(folder, fleet, layers, await startCuttingProxy(fleet.gateway.url));
  }

  async stop(): Promise<void> {
    await this.#vm?.kill();
    await this.proxy.stop();
    await this.#fleet.stop();
    await rm(this.folder, { recursive: true, force: true });
  }

  /**
   * Publishes a version under its own tag and as what machines follow. `fresh` bytes of it are in no
   * version before it.
   */
  async publish(name: string, entries: readonly TarSpec[] = [], fresh = 64): Promise<void> {
    const all = [
      file('usr/lib/version', `${name}\n`),
      file('usr/lib/payload', payload(name, fresh)),
      ...entries,
    ];
    for (const tag of [name, 'stable']) {
      this.digests.set(name, await publishVersion(this.#fleet.repository, this.#base, tag, all));
    }
  }

  /** A file that makes a version boot by a unified kernel image. */
  async unifiedKernel(): Promise<TarSpec> {
    const { output: kernel } = await this.vm.run('uname -r');
    const image = unifiedKernel(join(CACHE, 'base.tar'), kernel);
    return file(`usr/lib/modules/${kernel}/vmlinuz.efi`, image);
  }

  /** Installs what is published onto the disk image; `options` are further ones of the command. */
  async install(...options: readonly string[]): Promise<Answer> {
    const args = [
      join(ROOT, 'host-client/main.ts'),
      ...['install', '--json', '--image', `docker://${this.#fleet.gateway.host}/os/image:stable`],
      ...['--name', IMAGE_NAME, '--policy', join(this.folder, 'policy.json')],
      ...['--image-file', this.disk, '--size', '6144', '--boot-size', '256', '--tries', '2'],
      ...['--machine-gateway', `http://10.0.2.2:${this.proxy.port}`],
      // The wait after a panic keeps the emulator busy: a second of it is enough.
      ...['console=ttyS0', 'quiet', 'systemd.show_status=error', 'panic=1'].flatMap((word) => [
        ...['--kernel-option', word],
      ]),
      ...options,
    ];
    const { status, stdout, stderr } = await runProgramFile(process.execPath, args, {
      minutes: 30,
    });
    if (status !== 0) throw new Error(`install ended with ${status}: ${stdout}${stderr}`);
    return { status, json: JSON.parse(stdout) };
  }

  /** The machine that runs. */
  get vm(): VirtualMachine {
    if (this.#vm === undefined) throw new Error('the machine does not run');
    return this.#vm;
  }

  /** Switches the machine on and waits until a version has booted. */
  async boot(version: string): Promise<void> {
    await this.powerOn();
    await this.vm.waitForShell(version, 3600);
  }

  async powerOn(): Promise<void> {
    this.#vm = await VirtualMachine.start(this.disk);
  }

  /** Cuts the power. */
  async cutPower(): Promise<void> {
    await this.#vm?.kill();
    this.#vm = undefined;
  }

  /** Restarts the machine and waits for a version, over as many boots of others as that takes. */
  async rebootInto(version: string): Promise<void> {
    const from = this.vm.log.length;
    await this.vm.run('systemctl reboot');
    await this.vm.waitForShell(version, 5400, from);
  }

  /** Waits until everything that a boot starts has ended, well or not. */
  async settled(): Promise<void> {
    await this.vm.run('systemctl is-system-running --wait; true', 3600);
  }

  /** Which version runs, by what its image ships. */
  async running(): Promise<string> {
    return (await this.vm.run('cat /usr/lib/version', 600)).output;
  }

  /** Runs `snaphost ... --json` in the machine. */
  async snaphost(words: string): Promise<Answer> {
    const { status, output } = await this.vm.run(`snaphost ${words} --json`, 3600);
    const last = output.split('\n').at(-1) ?? '';
    return { status, json: JSON.parse(last) };
  }

  /** The record of the deployment of a version. */
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever a command prints.
  async deployment(version: string): Promise<any> {
    const { json } = await this.snaphost('list');
    return json.deployments.find(
      (one: { manifest: string }) => one.manifest === this.digests.get(version),
    );
  }
}

/**
 * Gives the tests of a file a fleet that has published `v1`, unless they are skipped, and takes it away
 * after them.
 */
export function withVmFleet(skip: string | undefined, use: (fleet: VmFleet) => void): void {
  let fleet: VmFleet | undefined;
  beforeAll(async () => {
    if (skip !== undefined) return;
    fleet = await VmFleet.start();
    use(fleet);
    await fleet.publish('v1');
  }, 20 * MINUTES);
  afterAll(async () => {
    await fleet?.stop();
  });
}
