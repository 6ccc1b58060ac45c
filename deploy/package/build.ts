/**
 * Builds the host client for machines in the field: one JavaScript file, one executable that carries
 * its own Node.js, a tarball with systemd units and an install script, and a Debian package.
 *
 * Usage: node deploy/package/build.ts [OUT [ARCH]]
 * OUT is `dist` by default, ARCH this machine's: x64 or arm64, whichever this machine is.
 */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { bundle } from './bundle.ts';
import { ARCHITECTURES, targetFor } from './target.ts';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const here = join(root, 'deploy/package');
/** Marks where a blob may be put into Node.js (Node.js documentation, "Single executable applications"). */
const FUSE = 'NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2';

/** Where shells look for completions. */
const COMPLETIONS = {
  bash: 'usr/share/bash-completion/completions/snaphost',
  zsh: 'usr/share/zsh/vendor-completions/_snaphost',
  fish: 'usr/share/fish/vendor_completions.d/snaphost.fish',
} as const;

/** The executable: Node.js with the bundle inside. */
function executable(script: string, node: string, program: string, work: string): void {
  const blob = join(work, 'blob');
  const config = join(work, 'sea.json');
  writeFileSync(
    config,
    JSON.stringify({ main: script, output: blob, disableExperimentalSEAWarning: true }),
  );
  execFileSync(process.execPath, ['--experimental-sea-config', config], { stdio: 'ignore' });
  copyFileSync(node, program);
  chmodSync(program, 0o755);
  const postject = join(root, 'node_modules/postject/dist/cli.js');
  // It warns of sections that it does not know; what it says counts only when it fails.
  const args = [program, 'NODE_SEA_BLOB', blob, '--sentinel-fuse', FUSE];
  execFileSync(process.execPath, [postject, ...args], { stdio: 'pipe' });
}

/** The files as they lie on a machine, below `tree`. `script` says the same of itself as `program`. */
function lay(tree: string, program: string, script: string): void {
  const place = (from: string, to: string, mode: number) => {
    mkdirSync(dirname(join(tree, to)), { recursive: true });
    cpSync(from, join(tree, to), { recursive: true });
    chmodSync(join(tree, to), mode);
  };
  place(program, 'usr/bin/snaphost', 0o755);
  for (const unit of [
    'snaphost-update.service',
    'snaphost-update.timer',
    'snaphost-boot-complete.service',
    'snaphost-machine-id.service',
  ]) {
    place(join(root, 'deploy/systemd', unit), join('usr/lib/systemd/system', unit), 0o644);
  }
  const wants = join(tree, 'usr/lib/systemd/system/sysinit.target.wants');
  mkdirSync(wants);
  symlinkSync('../snaphost-machine-id.service', join(wants, 'snaphost-machine-id.service'));
  place(
    join(root, 'deploy/systemd/emergency.service.d.conf'),
    'usr/lib/systemd/system/emergency.service.d/50-snaphost.conf',
    0o644,
  );
  place(
    join(root, 'deploy/systemd/watchdog.conf'),
    'usr/lib/systemd/system.conf.d/50-snaphost-watchdog.conf',
    0o644,
  );
  place(join(root, 'deploy/tukit/snapgate-plugin'), 'usr/lib/tukit/plugins/snapgate', 0o755);
  // Not in the path: tukit would take it for the backend of the machine's snapshots unasked.
  mkdirSync(join(tree, 'usr/lib/snaphost'), { recursive: true });
  symlinkSync('../../bin/snaphost', join(tree, 'usr/lib/snaphost/container-snap'));
  place(join(root, 'deploy/MACHINE.md'), 'usr/share/doc/snaphost/MACHINE.md', 0o644);
  const man = execFileSync(process.execPath, [script, 'man'], { encoding: 'utf8' });
  mkdirSync(join(tree, 'usr/share/man/man8'), { recursive: true });
  writeFileSync(join(tree, 'usr/share/man/man8/snaphost.8'), man);
  for (const [shell, place] of Object.entries(COMPLETIONS)) {
    const args = [script, 'completion', shell];
    mkdirSync(dirname(join(tree, place)), { recursive: true });
    writeFileSync(join(tree, place), execFileSync(process.execPath, args, { encoding: 'utf8' }));
  }
}

function debian(tree: string, out: string, version: string, arch: string): void {
  const name = ARCHITECTURES[arch] ?? arch;
  mkdirSync(join(tree, 'DEBIAN'));
  const control = [
    'Package: snaphost',
    `Version: ${version}`,
    `Architecture: ${name}`,
    'Maintainer: The Snapgate authors <snapgate@localhost>',
    'Depends: btrfs-progs, skopeo, libc6, libstdc++6',
    'Recommends: podman, mtools, fdisk',
    'Section: admin',
    'Priority: optional',
    'Description: updates this machine from signed operating system images',
    ' Fetches only what changed, checks every signature, and boots into the new',
    ' version; what does not work is left by itself.',
    '',
  ];
  writeFileSync(join(tree, 'DEBIAN/control'), control.join('\n'));
  copyFileSync(join(here, 'postinst'), join(tree, 'DEBIAN/postinst'));
  chmodSync(join(tree, 'DEBIAN/postinst'), 0o755);
  const file = join(out, `snaphost_${version}_${name}.deb`);
  execFileSync('dpkg-deb', ['--root-owner-group', '--build', '-Zzstd', tree, file], {
    stdio: 'ignore',
  });
}

const out = resolve(process.argv[2] ?? join(root, 'dist'));
const arch = process.argv[3] ?? process.arch;
if (ARCHITECTURES[arch] === undefined) {
  console.error(`build.ts: no ${arch}; there is ${Object.keys(ARCHITECTURES).join(' and ')}`);
  process.exit(2);
}
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  version: string;
};
const work = mkdtempSync(join(tmpdir(), 'snaphost-package-'));
try {
  mkdirSync(out, { recursive: true });
  const { node, koffi } = targetFor(arch, work);
  const script = join(out, 'snaphost.mjs');
  await bundle(script, 'esm', koffi);
  await bundle(join(work, 'snaphost.cjs'), 'cjs', koffi);
  const program = join(out, 'snaphost');
  executable(join(work, 'snaphost.cjs'), node, program, work);
  const tree = join(work, 'tree');
  lay(tree, program, script);
  copyFileSync(join(here, 'install.sh'), join(tree, 'install.sh'));
  const archive = join(out, `snaphost-${version}-linux-${arch}.tar.gz`);
  execFileSync('tar', ['-C', tree, '--owner=0', '--group=0', '--sort=name', '-czf', archive, '.']);
  rmSync(join(tree, 'install.sh'));
  debian(tree, out, version, arch);
} finally {
  rmSync(work, { recursive: true, force: true });
}
