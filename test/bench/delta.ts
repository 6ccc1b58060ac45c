/**
 * Layer deltas of this project and of other tools, on updates of several kinds: bytes on the line,
 * CPU seconds and peak memory to make them and to apply them. Every result is applied and must give
 * back the layers bit for bit. Run: `node test/bench/delta.ts [--quick] [--anew] [--again] [--peers | --ours] [PAIR...]`.
 *
 * Pairs are made from packages of Debian (apt, mmdebstrap) and of npm in their newest versions, and
 * kept under .cache/bench until `--anew` makes them again; the server is that of the demo
 * (`deploy/run demo`). Other tools that are not installed are left out; needed is GNU time. What was
 * measured of them is kept beside the pairs, for this processor and their version, until `--again`
 * measures it again; the table says when each row was measured. `--quick` takes the small pairs, ours
 * for common machines and tar-diff; `--peers` leaves out ours, `--ours` measures nothing else.
 */
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { formatBytes, formatTable } from '../../shared/cli/format.ts';
import { type Cost, run, runWell } from './delta/cost.ts';
import { unpackedLayers } from './delta/image.ts';
import { type Measured, today } from './delta/kept-results.ts';
import { keptFile, type MadePair, makePair, PAIRS, serverPair } from './delta/pairs.ts';
import { measurePeers } from './delta/peers.ts';

const GATEWAY = fileURLToPath(new URL('../../gateway/main.ts', import.meta.url));
const SERVER = 'debian-12-server';
const BASE = 'tar-diff';
/** The exit status of a delta that would not be smaller than the image. */
const REFUSED = 'DELTA_REFUSED';

/** Ours, by what the machines can do that the delta is for. */
const OURS = [
  { name: 'snapgate, 1 GiB to encode', args: ['--encoder-memory', '1024'] },
  { name: 'snapgate', args: [] },
  { name: 'snapgate, plain', args: ['--no-recompress'] },
  { name: 'snapgate, tar-diff', args: ['--format', 'tar-diff'] },
];

const flags = process.argv.slice(2).filter((word) => word.startsWith('--'));
const asked = process.argv.slice(2).filter((word) => !word.startsWith('--'));
const isQuick = flags.includes('--quick');
if (!existsSync('/usr/bin/time')) throw new Error('GNU time is missing (package time)');

/** Of the other tools in the table. */
const versions = new Set<string>();
const work = await mkdtemp(join(tmpdir(), 'snapgate-bench-'));
try {
  const rows: string[][] = [];
  for (const [name, pair] of await pairs()) {
    process.stderr.write(`${name}: ${pair.versions}\n`);
    for (const row of await measure(name, pair)) {
      process.stderr.write(`${row.join('  ')}\n`);
      rows.push(row);
    }
  }
  const columns = ['pair', 'tool', 'bytes', `of ${BASE}`, 'make: CPU s', 'memory'];
  columns.push('apply: CPU s', 'memory ', 'measured');
  process.stdout.write(formatTable(columns, rows));
  process.stdout.write(`\n${[...versions].join(', ')}\n`);
} finally {
  await rm(work, { recursive: true, force: true });
}

async function pairs(): Promise<Map<string, MadePair>> {
  const isWanted = (name: string, quick: boolean) =>
    asked.length > 0 ? asked.includes(name) : quick || !isQuick;
  const made = new Map<string, MadePair>();
  if (isWanted(SERVER, false)) {
    const server = serverPair();
    if (server !== undefined) made.set(SERVER, server);
    else process.stderr.write(`${SERVER}: the demo's images are missing\n`);
  }
  for (const pair of PAIRS) {
    if (!isWanted(pair.name, pair.isQuick)) continue;
    const found = await makePair(pair, flags.includes('--anew'));
    if (found !== undefined) made.set(pair.name, found);
  }
  return made;
}

async function measure(name: string, { folder }: MadePair): Promise<string[][]> {
  const here = await mkdtemp(join(work, 'pair-'));
  const layers = await unpackedLayers(folder, here);
  const results: (Measured & { readonly measured: string })[] = [];
  const ours = isQuick ? OURS.filter((one) => one.args.length === 0) : OURS;
  for (const { name, args } of flags.includes('--peers') ? [] : ours) {
    const own = await makeAndApply(folder, here, args);
    results.push({ tool: name, ...own, measured: today() });
  }
  const measure = flags.includes('--ours') ? 'none' : flags.includes('--again') ? 'all' : 'new';
  const options = { kept: keptFile(name), measure } as const;
  const names = isQuick ? { names: [BASE] } : {};
  for (const peer of await measurePeers(layers, here, { ...options, ...names })) {
    versions.add(peer.version);
    results.push(peer);
  }
  await rm(here, { recursive: true });
  const base = results.find((result) => result.tool === BASE)?.bytes;
  const share = (bytes: number) =>
    base === undefined ? '' : `${((100 * bytes) / base).toFixed(1)} %`;
  const cost = (one: Cost | undefined) =>
    one === undefined ? ['', ''] : [one.cpu.toFixed(1), formatBytes(one.memory)];
  return results.map(({ tool, bytes, make, apply, measured }) => [
    ...[name, tool, String(bytes), share(bytes)],
    ...cost(make),
    ...cost(apply),
    measured,
  ]);
}

/**
 * Makes the delta of an image and applies it; only layers that travel are counted. Without a delta,
 * the image is pulled.
 */
async function makeAndApply(
  folder: string,
  here: string,
  args: readonly string[],
): Promise<Omit<Measured, 'tool'>> {
  const out = join(here, 'ours');
  const made = await run(here, process.execPath, [
    ...[GATEWAY, 'delta', 'create', '--json', '--temporary-dir', here, ...args],
    ...['--source', `oci:${folder}/v1`, '--target', `oci:${folder}/v2`, '--output', `oci:${out}:d`],
  ]);
  const created = JSON.parse(made.out) as Created;
  if ('error' in created) {
    if (created.error.code !== REFUSED) throw new Error(created.error.message);
    return { bytes: Number.NaN, make: made.cost };
  }
  const bytes = created.layers.reduce((sum, layer) => sum + layer.bytes, 0);
  const rebuilt = join(here, 'rebuilt');
  const applied = await runWell(here, process.execPath, [
    ...[GATEWAY, 'delta', 'apply', '--json', '--temporary-dir', here],
    ...['--source-tree', join(here, 'tree'), '--source', `oci:${here}/plain:v1`],
    ...['--delta', `oci:${out}:d`, '--output', `oci:${rebuilt}:v2`],
  ]);
  const { missing } = JSON.parse(applied.out) as { missing: string[] };
  if (missing.length > 0) throw new Error(`layers were not rebuilt: ${missing.join(', ')}`);
  await rm(out, { recursive: true });
  await rm(rebuilt, { recursive: true });
  return { bytes, make: made.cost, apply: applied.cost };
}

type Created =
  | { readonly layers: readonly { readonly bytes: number }[] }
  | { readonly error: { readonly code: string; readonly message: string } };
