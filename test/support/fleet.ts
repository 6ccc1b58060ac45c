import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { generateKey } from '../../gateway/signing/encrypted-key.ts';
import { createTransport } from '../../host-client/net/transport.ts';
import { Repository } from '../../shared/registry/repository.ts';
import { type BtrfsMount, btrfsSkipReason, mountBtrfs } from './btrfs.ts';
import { startGatewayProcess, type TestGateway } from './gateway.ts';
import { hasRegistry, startRegistry, type TestRegistry } from './registry.ts';
import { runProgramFile } from './run-program.ts';

export const SNAPHOST = fileURLToPath(new URL('../../host-client/main.ts', import.meta.url));
/** Name of the images in the policy and in Podman. */
export const IMAGE_NAME = 'gateway.test/os/image';

/** Why a machine cannot be updated here, or undefined when it can. */
export function fleetSkipReason(): string | undefined {
  if (!hasRegistry()) return 'docker-registry is not installed';
  const reason = btrfsSkipReason();
  if (reason !== undefined) return reason;
  for (const program of ['podman', 'skopeo']) {
    try {
      execFileSync(program, ['--version'], { stdio: 'ignore' });
    } catch {
      return `needs ${program}`;
    }
  }
  return undefined;
}

/** What `snaphost --json` printed, and how it ended. */
export type HostAnswer = {
  readonly status: number;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into whatever a command prints.
  readonly json: any;
  readonly stderr: string;
};

/** What an update changes on a machine. */
export type MachineState = {
  readonly subvolumes: readonly string[];
  /** Path of the subvolume that boots next. */
  readonly next: string;
  /** Ids of Podman's images, a line each. */
  readonly images: string;
  /** Names of files that are downloaded, whole or in part. */
  readonly downloads: readonly string[];
};

/** A machine: a btrfs file system with Podman's storage and a configuration. */
export class TestMachine {
  readonly root: string;
  readonly mount: BtrfsMount;
  /** What the machine's environment has besides. */
  env: Readonly<Record<string, string>> = {};
  /** A program that runs the client, such as `ip netns exec NAME`. */
  runner: readonly string[] = [];
  /** The client; by default that of this checkout. */
  client: readonly string[] = [process.execPath, SNAPHOST];

  readonly #runRoot: string;

  private constructor(mount: BtrfsMount, runRoot: string) {
    this.mount = mount;
    this.root = mount.path;
    this.#runRoot = runRoot;
  }

  static async create(
    gatewayUrl: string,
    policy: object | undefined,
    options: { sizeMiB?: number; config?: object } = {},
  ): Promise<TestMachine> {
    const runRoot = await mkdtemp(join(tmpdir(), 'snapgate-run-'));
    const mount = mountBtrfs({ sizeMiB: options.sizeMiB ?? 1024 });
    const machine = new TestMachine(mount, runRoot);
    await mkdir(join(machine.root, 'etc/snaphost'), { recursive: true });
    await mkdir(join(machine.root, 'var/lib/containers/storage'), { recursive: true });
    await machine.configure(gatewayUrl, options.config);
    if (policy !== undefined) await machine.write('policy', policy);
    return machine;
  }

  /** Writes the configuration anew. */
  async configure(gatewayUrl: string, more: object = {}): Promise<void> {
    const repository = 'os/image';
    const base = { gateways: [gatewayUrl], repository, tag: 'stable', name: IMAGE_NAME };
    const storage = { runRoot: this.#runRoot, smallestDelta: 0 };
    await this.write('config', { ...base, ...storage, ...more });
  }

  async write(name: 'config' | 'policy', content: object): Promise<void> {
    await writeFile(join(this.root, `etc/snaphost/${name}.json`), JSON.stringify(content));
  }

  /** Runs `snaphost ... --json`. */
  async snaphost(...args: string[]): Promise<HostAnswer> {
    const argv = [...this.client, ...args, '--root', this.root, '--json'];
    const [program = '', ...rest] = [...this.runner, ...argv];
    const { status, stdout, stderr } = await runProgramFile(program, rest, { env: this.env });
    const last = stdout.trim().split('\n').at(-1) ?? '';
    return { status, json: last === '' ? undefined : JSON.parse(last), stderr };
  }

  /** Runs Podman on this machine's storage and gives what it prints. */
  podman(...args: string[]): string {
    const graph = join(this.root, 'var/lib/containers/storage');
    const storage = ['--root', graph, '--runroot', this.#runRoot, '--storage-driver', 'btrfs'];
    // Of its own, as other tests run Podman at the same time.
    const tmp = ['--tmpdir', join(this.#runRoot, 'libpod')];
    return execFileSync('podman', [...storage, ...tmp, ...args], { encoding: 'utf8' });
  }

  /** What must be as it was after an update that failed. */
  async state(): Promise<MachineState> {
    return {
      subvolumes: this.subvolumes(),
      next: this.bootsNext(),
      images: this.podman('images', '--all', '--no-trunc', '--quiet'),
      downloads: await readdir(join(this.root, 'var/lib/snaphost/downloads')).catch(() => []),
    };
  }

  /** Takes the machine away. */
  async remove(): Promise<void> {
    this.mount.unmount();
    await rm(this.#runRoot, { recursive: true, force: true });
  }

  /** Path of the subvolume that boots next, from the top of the file system. */
  bootsNext(): string {
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    const args = ['subvolume', 'get-default', this.root];
    const text = execFileSync('btrfs', args, { encoding: 'utf8', env });
    return / path (.*)$/m.exec(text)?.[1] ?? '';
  }

  /** Names of all subvolumes. */
  subvolumes(): string[] {
    const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
    const args = ['subvolume', 'list', this.root];
    const text = execFileSync('btrfs', args, { encoding: 'utf8', env });
    return [...text.matchAll(/ path (.*)$/gm)].map((match) => match[1] ?? '').sort();
  }
}

/** A registry, a gateway in front of it that signs everything, and the policy that trusts it. */
export type Fleet = {
  readonly registry: TestRegistry;
  readonly gateway: TestGateway;
  /** Stops the gateway, and starts it again with all that it keeps, at another address. */
  restart(): Promise<void>;
  /** The machines' repository, through the gateway. */
  readonly repository: Repository;
  /** Another repository, through the gateway. */
  open(name: string): Repository;
  readonly policy: object;
  readonly key: { readonly privatePem: string; readonly publicPem: string };
  stop(): Promise<void>;
};

/** A policy that trusts one key in everything. */
export function policyFor(publicPem: string): object {
  return {
    version: 1,
    keys: { gateway: { pem: publicPem } },
    rules: [{ repository: IMAGE_NAME, images: { signers: ['gateway'] } }],
  };
}

/** Starts registry and gateway. */
export async function startFleet(): Promise<Fleet> {
  const dir = await mkdtemp(join(tmpdir(), 'snapgate-fleet-'));
  const key = generateKey('word');
  await writeFile(join(dir, 'signing.key'), key.privatePem);
  await writeFile(join(dir, 'signing.word'), 'word\n');
  const registry = await startRegistry();
  const rule = { key: join(dir, 'signing.key'), passwordFile: join(dir, 'signing.word') };
  const startGateway = () =>
    startGatewayProcess(registry.url, {
      publicUrl: 'http://gateway.test',
      data: join(dir, 'data'),
      deltas: { repositories: ['os/*'] },
      signing: [{ repository: 'os/*', ...rule }],
    });
  let gateway = await startGateway();
  const { transport, close } = createTransport();
  const open = (name: string) =>
    new Repository({ transport, baseUrl: new URL(gateway.url), repository: name });
  return {
    ...{ registry, open, policy: policyFor(key.publicPem), key },
    get gateway() {
      return gateway;
    },
    get repository() {
      return open('os/image');
    },
    async restart() {
      await gateway.stop();
      gateway = await startGateway();
    },
    async stop() {
      close();
      await gateway.stop();
      await registry.stop();
      await rm(dir, { recursive: true, force: true });
    },
  };
}
