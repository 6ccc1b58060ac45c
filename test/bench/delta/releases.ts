import { execFileSync } from 'node:child_process';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Archive } from './debian-archive.ts';

/** Two packages of a name in a row, unpacked: the newest, or those `back` before. */
export async function kernels(folder: string, suite: string, pattern: RegExp, back: number) {
  const archive = await Archive.open(join(folder, suite), suite);
  const names = archive
    .names('linux-image-6')
    .filter((name) => pattern.test(name))
    .sort(byVersion)
    .slice(-2 - back)
    .slice(0, 2);
  const [old, fresh] = names;
  if (old === undefined || fresh === undefined) throw new Error('too few versions are on offer');
  for (const [i, name] of names.entries()) {
    const root = join(folder, `root${i + 1}`);
    archive.unpack(name, root);
    packFolder(root, join(folder, `v${i + 1}.tar`));
  }
  return [old, fresh] as const;
}

/**
 * The newest release of a package, and the newest before it of another patch or minor version; or
 * the pair of that kind which is `back` before.
 */
export async function npmReleases(
  folder: string,
  name: string,
  step: 'patch' | 'minor',
  back: number,
) {
  const listed = execFileSync('npm', ['view', name, 'versions', '--json'], { encoding: 'utf8' });
  const versions = (JSON.parse(listed) as string[])
    .filter((version) => /^\d+\.\d+\.\d+$/.test(version))
    .sort(byVersion);
  const series = (version: string) => version.split('.', step === 'patch' ? 2 : 1).join('.');
  const minor = (version: string) => version.split('.', 2).join('.');
  const pairs: (readonly [string, string])[] = [];
  for (const fresh of versions) {
    const before = versions.filter(
      (old) =>
        byVersion(old, fresh) < 0 &&
        series(old) === series(fresh) &&
        (step === 'patch' || minor(old) !== minor(fresh)),
    );
    const old = before.at(-1);
    if (old !== undefined) pairs.push([old, fresh]);
  }
  const found = pairs.at(-1 - back);
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
