import { execFile, execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { findProgram, hasProgram } from '../support/has-program.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const TRIAL = join(root, 'test/support/compose-trial');
const CHECKOUT = [
  ...['deploy', 'gateway', 'shared', 'package.json', 'package-lock.json'],
  ...['.npmrc', '.dockerignore', 'LICENSE'],
];

function skipReason(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root';
  const needed = ['podman-compose', 'podman', 'runc', 'docker-registry', 'iptables', 'ldd'];
  const missing = needed.filter((name) => !hasProgram(name) && !existsSync(`/usr/sbin/${name}`));
  return missing.length === 0 ? undefined : `needs ${missing.join(', ')}`;
}

/** Puts programs of this machine and their libraries into a folder that becomes an image. */
function layPrograms(folder: string, programs: Readonly<Record<string, string>>): void {
  for (const [name, path] of Object.entries(programs)) {
    const libraries = execFileSync('ldd', [path], { encoding: 'utf8' }).matchAll(/\/\S+/g);
    for (const library of libraries) copy(library[0], join(folder, library[0]));
    copy(path, join(folder, 'bin', name));
  }
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(realpathSync(from), to, { recursive: true });
}

/** In place of the image with Node.js: an npm that has all dependencies already. */
function layNode(folder: string): void {
  const tools = ['sh', 'mkdir', 'chown', 'cp', 'cat', 'head', 'base64'];
  layPrograms(folder, {
    ...Object.fromEntries(tools.map((name) => [name, findProgram(name) ?? name])),
    node: process.execPath,
  });
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as {
    packages: Record<string, { dev?: boolean }>;
  };
  for (const [path, { dev }] of Object.entries(lock.packages)) {
    const isTop = /^node_modules\/(@[^/]+\/)?[^/]+$/.test(path);
    if (!isTop || dev === true || !existsSync(join(root, path))) continue;
    copy(join(root, path), join(folder, 'dependencies', path));
  }
  const npm =
    '#!/bin/sh\n[ "$1 $2" = "ci --omit=dev" ] && exec cp -R /dependencies/node_modules .\n';
  writeFileSync(join(folder, 'bin/npm'), npm, { mode: 0o755 });
  mkdirSync(join(folder, 'var/lib'), { recursive: true });
  writeFileSync(join(folder, 'Containerfile'), 'FROM scratch\nCOPY . /\nENV PATH=/bin\n');
}

function layRegistry(folder: string): void {
  layPrograms(folder, { 'docker-registry': findProgram('docker-registry') ?? '' });
  const config = {
    version: '0.1',
    storage: { filesystem: { rootdirectory: '/var/lib/registry' } },
    http: { addr: ':5000' },
  };
  writeFileSync(join(folder, 'config.yml'), JSON.stringify(config));
  const start = '["/bin/docker-registry", "serve", "/config.yml"]';
  writeFileSync(join(folder, 'Containerfile'), `FROM scratch\nCOPY . /\nENTRYPOINT ${start}\n`);
}

describe('the compose file', { timeout: 900_000 }, () => {
  it('comes up, signs what is pushed, and keeps its key', async (ctx) => {
    const reason = skipReason();
    ctx.skip(reason !== undefined, reason);
    const folder = await mkdtemp('/var/tmp/snapgate-compose-');
    ctx.onTestFinished(() => rm(folder, { recursive: true, force: true }));
    for (const name of CHECKOUT) copy(join(root, name), join(folder, 'checkout', name));
    layNode(join(folder, 'node'));
    layRegistry(join(folder, 'registry'));
    const apart = ['-mnpf', '--mount-proc', TRIAL, folder, process.execPath];
    const PATH = `${process.env.PATH}:/usr/sbin:/sbin`;
    // What the gateway's command line imports lies beside the copy of it.
    cpSync(join(folder, 'node/dependencies/node_modules'), join(folder, 'node_modules'), {
      recursive: true,
    });
    const { stdout } = await promisify(execFile)('unshare', apart, {
      ...{ timeout: 840_000, maxBuffer: 2 ** 26, env: { ...process.env, PATH } },
    });
    const said = stdout.split('\n').filter((line) => line.startsWith('ok '));
    expect(said).toEqual(['ok ready', 'ok healthy', 'ok signed', 'ok kept', 'ok gone']);
  });
});
