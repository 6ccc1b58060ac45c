/**
 * Deltas in the tar-diff format against those of tar-diff itself on the same layers: bytes, CPU
 * seconds, memory. Run: `node test/bench/tar-diff.ts [FOLDER]`, where FOLDER holds the layouts `v1`
 * and `v2` (default: the demo's images, which `deploy/run demo` builds).
 */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, stat } from 'node:fs/promises';
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

type Run = { out: string; seconds: number; cpu: number; memory: number };

const folder = process.argv[2] ?? IMAGES;
const work = await mkdtemp(join(tmpdir(), 'snapgate-bench-'));
try {
  const rows: string[][] = [];
  const ours = await run(process.execPath, [
    ...[GATEWAY, 'delta', 'create', '--json', '--format', 'tar-diff'],
    ...['--source', `oci:${folder}/v1`, '--target', `oci:${folder}/v2`],
    ...['--output', `oci:${work}/delta`, '--temporary-dir', work],
  ]);
  const created = JSON.parse(ours.out) as { layers: { kind: string; bytes: number }[] };
  const layers = created.layers.map((layer, i) => ({ ...layer, i }));
  const deltas = layers.filter((layer) => layer.kind === 'delta');
  rows.push(
    row(
      'snapgate',
      deltas.map((layer) => layer.bytes),
      ours,
    ),
  );
  for (const level of ['3', '22']) {
    const total: Run = { out: '', seconds: 0, cpu: 0, memory: 0 };
    const bytes: number[] = [];
    for (const { i } of deltas) {
      const made = join(work, `layer-${i}`);
      const [old, fresh] = [await layerFile('v1', i), await layerFile('v2', i)];
      const done = await run('tar-diff', ['-compression-level', level, old, fresh, made]);
      bytes.push((await stat(made)).size);
      total.seconds += done.seconds;
      total.cpu += done.cpu;
      total.memory = Math.max(total.memory, done.memory);
    }
    rows.push(row(`tar-diff, level ${level}`, bytes, total));
  }
  const columns = deltas.map((layer) => `layer ${layer.i}`);
  process.stdout.write(formatTable(['', ...columns, 'bytes', 'CPU s', 'seconds', 'memory'], rows));
} finally {
  await rm(work, { recursive: true, force: true });
}

function row(what: string, layers: readonly number[], { cpu, seconds, memory }: Run): string[] {
  const total = layers.reduce((sum, bytes) => sum + bytes, 0);
  const sizes = [...layers, total].map((bytes) => String(bytes));
  return [what, ...sizes, cpu.toFixed(1), seconds.toFixed(1), formatBytes(memory)];
}

/** The blob of a layer; of the last one when an image has fewer. */
async function layerFile(version: string, index: number): Promise<string> {
  const store = await LayoutStore.open(join(folder, version));
  const { facts } = await readImage(store, await store.defaultDigest());
  const layer = facts.layers[Math.min(index, facts.layers.length - 1)];
  if (layer === undefined) throw new Error(`${version} has no layers`);
  return join(folder, version, 'blobs/sha256', digestHex(layer.digest));
}

/** Runs a program and watches what it uses, as /proc tells it until the end. */
function run(program: string, args: readonly string[]): Promise<Run> {
  return new Promise((resolve, reject) => {
    const started = performance.now();
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const seen = { cpu: 0, memory: 0 };
    const watch = setInterval(() => look(child.pid, seen), 50);
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      out += chunk;
    });
    child.once('error', reject);
    child.once('close', (code) => {
      clearInterval(watch);
      if (code !== 0) reject(new Error(`${program} ended with ${code}: ${out}`));
      else resolve({ out, seconds: (performance.now() - started) / 1000, ...seen });
    });
  });
}

function look(pid: number | undefined, seen: { cpu: number; memory: number }): void {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    seen.cpu = (Number(stat[11]) + Number(stat[12])) / TICKS;
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    seen.memory = Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? seen.memory / 1024) * 1024;
  } catch {
    // It has just ended.
  }
}
