import { type ChildProcess, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from './free-port.ts';
import { hasProgram } from './has-program.ts';

/** A user that a registry with `auth: 'basic'` knows. */
export const REGISTRY_USER = { username: 'tester', password: 'open sesame' } as const;

/** What bcrypt makes of the password, the only kind that the registry reads. */
const HTPASSWD = 'tester:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n';

/** The token server that a registry sends its clients to. */
export type TokenAuth = {
  readonly realm: string;
  readonly service: string;
  readonly issuer: string;
  /** Certificates of the keys that tokens may be signed with, as PEM. */
  readonly certificates: string;
};

export type RegistryOptions = {
  /** `basic` lets {@link REGISTRY_USER} in and nobody else; absent lets everyone in. */
  readonly auth?: 'basic' | TokenAuth;
  /** Keep the content in this folder, which stays; by default it goes when the registry stops. */
  readonly storage?: string;
};

export type TestRegistry = {
  /** `127.0.0.1:PORT`, speaking plain HTTP. */
  readonly host: string;
  readonly url: string;
  /** Process id. */
  readonly pid: number;
  stop(): Promise<void>;
};

/** Whether the program that {@link startRegistry} runs is here. */
export function hasRegistry(): boolean {
  return hasProgram('docker-registry');
}

/** Runs `docker-registry` on a free port of loopback, and waits until it answers. */
export async function startRegistry(options: RegistryOptions = {}): Promise<TestRegistry> {
  const dir = await mkdtemp(join(tmpdir(), 'snapgate-registry-'));
  try {
    for (let attempt = 1; ; attempt += 1) {
      const host = `127.0.0.1:${await freePort()}`;
      const started = await start(dir, host, options);
      if (started !== undefined) return started;
      // Somebody else may have taken the port in the meantime.
      if (attempt === 3) throw new Error('docker-registry does not start');
    }
  } catch (thrown) {
    await rm(dir, { recursive: true, force: true });
    throw thrown;
  }
}

async function start(
  dir: string,
  host: string,
  options: RegistryOptions,
): Promise<TestRegistry | undefined> {
  const config = join(dir, 'config.yml');
  await writeFile(config, JSON.stringify(await registryConfig(dir, host, options)));
  const child = spawn('docker-registry', ['serve', config], {
    stdio: 'ignore',
    env: { PATH: process.env.PATH, OTEL_TRACES_EXPORTER: 'none' },
  });
  const kill = () => void child.kill('SIGKILL');
  const clean = () => {
    kill();
    rmSync(dir, { recursive: true, force: true });
  };
  process.once('exit', clean);
  const exited = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
    child.once('error', () => resolve());
  });
  const stop = async () => {
    process.off('exit', clean);
    kill();
    await exited;
    await rm(dir, { recursive: true, force: true });
  };
  const url = `http://${host}`;
  if (await answers(child, url)) return { host, url, pid: child.pid ?? 0, stop };
  process.off('exit', clean);
  kill();
  await exited;
  return undefined;
}

/** JSON is YAML. */
async function registryConfig(dir: string, host: string, options: RegistryOptions) {
  return {
    version: '0.1',
    log: { level: 'error', accesslog: { disabled: true } },
    storage: {
      filesystem: { rootdirectory: options.storage ?? join(dir, 'data') },
      delete: { enabled: true },
      maintenance: { uploadpurging: { enabled: false } },
    },
    http: { addr: host, secret: 'for tests' },
    ...(options.auth === undefined ? {} : { auth: await authConfig(dir, options.auth) }),
  };
}

async function authConfig(dir: string, auth: 'basic' | TokenAuth) {
  if (auth === 'basic') {
    const path = join(dir, 'htpasswd');
    await writeFile(path, HTPASSWD);
    return { htpasswd: { realm: 'test', path } };
  }
  const { certificates, ...token } = auth;
  const rootcertbundle = join(dir, 'certificates.pem');
  await writeFile(rootcertbundle, certificates);
  return { token: { ...token, rootcertbundle } };
}

async function answers(child: ChildProcess, url: string): Promise<boolean> {
  for (let attempt = 0; attempt < 600; attempt += 1) {
    if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) break;
    const answer = await fetch(`${url}/v2/`).catch(() => undefined);
    await answer?.body?.cancel();
    if (answer !== undefined) return child.exitCode === null;
    await sleep(50);
  }
  return false;
}
