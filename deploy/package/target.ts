import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');

/** What of the host client differs from one kind of processor to another. */
export type Target = {
  /** As Node.js names it. */
  readonly arch: string;
  /** The program Node.js of this script's version. */
  readonly node: string;
  /** koffi's native module. */
  readonly koffi: string;
};

/** Kinds of processor that the client is built for; Debian's names of them. */
export const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };

/** koffi's native module for this machine, as it was installed. */
export function installedKoffi(): string {
  return koffiIn(join(root, 'node_modules', koffiPackage(process.arch)), process.arch);
}

/** The target for a kind of processor: this machine's own, or fetched by npm into the folder `work`. */
export function targetFor(arch: string, work: string): Target {
  if (arch === process.arch) return { arch, node: process.execPath, koffi: installedKoffi() };
  const node = join(fetched(`node-linux-${arch}`, process.versions.node, work), 'bin/node');
  const name = koffiPackage(arch);
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { version: string; integrity: string } | undefined>;
  };
  const locked = lock.packages[`node_modules/${name}`];
  if (locked === undefined) throw new Error(`the lock file has no ${name}`);
  const koffi = koffiIn(fetched(name, locked.version, work, locked.integrity), arch);
  return { arch, node, koffi };
}

const koffiPackage = (arch: string) => `@koromix/koffi-linux-${arch}`;
const koffiIn = (folder: string, arch: string) => join(folder, `linux_${arch}/koffi.node`);

/** Fetches and unpacks a package of npm; gives its folder. Throws when it is not what was locked. */
function fetched(name: string, version: string, work: string, integrity?: string): string {
  const folder = join(work, name.replace('/', '-'));
  mkdirSync(folder);
  // In a folder of its own npm reads none of the project's settings; those of the user hold.
  const args = ['pack', '--silent', '--pack-destination', folder, `${name}@${version}`];
  execFileSync('npm', args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  const archive = join(folder, readdirSync(folder)[0] ?? '');
  const digest = createHash('sha512').update(readFileSync(archive)).digest('base64');
  if (integrity !== undefined && integrity !== `sha512-${digest}`) {
    throw new Error(`${name} ${version} is not what the lock file says`);
  }
  execFileSync('tar', ['-C', folder, '-xzf', archive]);
  return join(folder, 'package');
}
