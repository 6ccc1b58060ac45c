/**
 * Applying layer deltas that need no encoders beside tar-patch, which computes no digests: CPU
 * seconds and peak memory for all layers of the demo's update (`deploy/run demo` builds its images),
 * written to a file. Run: `node test/bench/apply.ts`; needed are GNU time and tar-patch.
 */
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { liblzmaInside } from '../../deploy/package/bundle.ts';
import { LayoutStore } from '../../gateway/layout/layout-store.ts';
import { readDelta } from '../../gateway/plan/read-delta.ts';
import { formatBytes, formatTable } from '../../shared/cli/format.ts';
import { headerStream } from '../../shared/delta/layer-delta/header-stream.ts';
import { digestHex } from '../../shared/digest.ts';
import { addCosts, type Cost, NO_COST, runWell } from './delta/cost.ts';
import { type LayerPair, sha256Of, unpackedLayers } from './delta/image.ts';
import { serverPair } from './delta/pairs.ts';

const GATEWAY = fileURLToPath(new URL('../../gateway/main.ts', import.meta.url));
const PROGRAM = fileURLToPath(new URL('./delta/apply-layers.ts', import.meta.url));
const ROUNDS = 5;
const FORMATS = [
  { name: 'snapgate, tar-diff', args: ['--format', 'tar-diff'] },
  { name: 'snapgate, plain', args: ['--no-recompress'] },
];

type Delta = { readonly diffId: string; readonly file: string };

const pair = serverPair();
if (pair === undefined) throw new Error('the demo’s images are missing');
const work = await mkdtemp(join(tmpdir(), 'snapgate-bench-'));
try {
  const layers = await unpackedLayers(pair.folder, work);
  const headers = await writeHeaders(layers);
  const program = join(work, 'apply-layers.mjs');
  const options = { bundle: true, platform: 'node', format: 'esm', logLevel: 'error' } as const;
  const plugins = [liblzmaInside];
  await build({ ...options, entryPoints: [PROGRAM], outfile: program, plugins });
  const made = await Promise.all(FORMATS.map(({ args }, i) => create(pair.folder, `d${i}`, args)));
  const costs = new Map<string, Cost[]>();
  for (let round = 0; round < ROUNDS; round += 1) {
    note(costs, 'tar-patch', await patch(made[0] ?? []));
    for (const [i, { name }] of FORMATS.entries()) {
      const deltas = (made[i] ?? []).flatMap(({ diffId, file }) => [diffId, file]);
      const args = [program, join(work, 'tree'), headers, join(work, 'out.tar'), ...deltas];
      note(costs, name, (await runWell(work, process.execPath, args)).cost);
    }
  }
  print(costs);
} finally {
  await rm(work, { recursive: true, force: true });
}

/** The headers of the old layers, as Podman has them; by diff_id. */
async function writeHeaders(layers: readonly LayerPair[]): Promise<string> {
  const headers = join(work, 'headers');
  await mkdir(headers);
  for (const { old } of layers) {
    await writeFile(join(headers, await sha256Of(old)), headerStream(pieces(old)));
  }
  return headers;
}

async function* pieces(tar: string) {
  for await (const bytes of createReadStream(tar)) yield { bytes: bytes as Buffer };
}

async function create(folder: string, name: string, args: readonly string[]): Promise<Delta[]> {
  const out = join(work, name);
  await runWell(await mkdtemp(join(work, 'create-')), process.execPath, [
    ...[GATEWAY, 'delta', 'create', '--json', '--temporary-dir', work, ...args],
    ...['--source', `oci:${folder}/v1`, '--target', `oci:${folder}/v2`, '--output', `oci:${out}:d`],
  ]);
  const store = await LayoutStore.open(out);
  const { parts, target } = await readDelta(store, 'd');
  return target.manifest.layers.flatMap(({ digest }, i) => {
    const part = parts.get(digest);
    const diffId = target.config.rootfs.diff_ids[i];
    if (part === undefined || diffId === undefined) return [];
    return [{ diffId, file: join(out, 'blobs/sha256', digestHex(part.digest)) }];
  });
}

async function patch(deltas: readonly Delta[]): Promise<Cost> {
  let total = NO_COST;
  for (const { file } of deltas) {
    const args = [file, join(work, 'tree'), join(work, 'out.tar')];
    total = addCosts(total, (await runWell(work, 'tar-patch', args)).cost);
  }
  return total;
}

function note(costs: Map<string, Cost[]>, name: string, cost: Cost): void {
  costs.set(name, [...(costs.get(name) ?? []), cost]);
}

function print(costs: ReadonlyMap<string, readonly Cost[]>): void {
  const base = median(costs.get('tar-patch') ?? []);
  const rows = [...costs].map(([name, all]) => {
    const memory = Math.max(...all.map((cost) => cost.memory));
    const cpu = median(all);
    return [name, cpu.toFixed(2), `${(cpu / base).toFixed(2)}`, formatBytes(memory)];
  });
  process.stdout.write(formatTable(['', 'CPU s', 'of tar-patch', 'memory'], rows));
}

function median(costs: readonly Cost[]): number {
  const sorted = costs.map(({ cpu }) => cpu).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
