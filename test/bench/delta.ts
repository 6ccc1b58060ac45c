/**
 * Layer deltas of this project and of other tools, on updates of several kinds: bytes on the line,
 * CPU seconds and peak memory to make them and to apply them. Every result is applied and must give
 * back the layers bit for bit. Run: `node test/bench/delta.ts [OPTIONS] [PAIR...]`; `--help` has the
 * options and the pairs.
 *
 * Pairs are made from packages of Debian (apt, mmdebstrap) and of npm in their newest versions, and
 * kept under .cache/bench until `--anew` makes them again; the server is that of the demo
 * (`deploy/run demo`). Other tools that are not installed are left out; needed is GNU time. What was
 * measured of them is kept beside the pairs, for this processor and their version, until `--again`
 * measures it again; the table says when each row was measured.
 */
import { existsSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { formatTable } from '../../shared/cli/format.ts';
import type { Cost } from './delta/cost.ts';
import { unpackedLayers } from './delta/image.ts';
import { type Measured, today } from './delta/kept-results.ts';
import { type BenchOptions, parseOptions } from './delta/options.ts';
import { measureOurs } from './delta/ours.ts';
import { keptFile, type MadePair, makePair, PAIRS, SERVER, serverPair } from './delta/pairs.ts';
import { measurePeers } from './delta/peers.ts';

const BASE = 'tar-diff';
const COLUMNS = [
  ...['pair', 'tool', 'bytes', `of ${BASE}`, 'make: CPU s', 'memory'],
  ...['apply: CPU s', 'memory ', 'measured'],
];

const known = new Map([[SERVER.name, SERVER.what], ...PAIRS.map((p) => [p.name, p.what] as const)]);
const parsed = parseOptions(process.argv.slice(2), known);
if ('text' in parsed) {
  (parsed.status === 0 ? process.stdout : process.stderr).write(parsed.text);
  process.exit(parsed.status);
}
if (!existsSync('/usr/bin/time')) throw new Error('GNU time is missing (package time)');
await bench(parsed.options);

async function bench(options: BenchOptions): Promise<void> {
  /** Of the other tools in the table. */
  const versions = new Set<string>();
  const work = await mkdtemp(join(tmpdir(), 'snapgate-bench-'));
  try {
    const rows: string[][] = [];
    for (const [name, pair] of await pairs(options)) {
      process.stderr.write(`${name}: ${pair.versions}\n`);
      const here = await mkdtemp(join(work, 'pair-'));
      for (const row of rowsOf(name, await measure(name, pair, here, options, versions))) {
        process.stderr.write(`${row.join('  ')}\n`);
        rows.push(row);
      }
      // Not `rm`, which asks for all files of a folder at once: a million of them take 4 GB.
      rmSync(here, { recursive: true });
    }
    process.stdout.write(formatTable(COLUMNS, rows));
    process.stdout.write(`\n${[...versions].join(', ')}\n`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function pairs(options: BenchOptions): Promise<Map<string, MadePair>> {
  const isWanted = (name: string, isUsual: boolean) =>
    options.pairs.length > 0 ? options.pairs.includes(name) : isUsual;
  const made = new Map<string, MadePair>();
  if (isWanted(SERVER.name, !options.isQuick)) {
    const server = serverPair();
    if (server !== undefined) made.set(SERVER.name, server);
    else process.stderr.write(`${SERVER.name}: the demo's images are missing\n`);
  }
  for (const pair of PAIRS) {
    if (!isWanted(pair.name, options.isQuick ? pair.run === 'quick' : pair.run !== 'asked'))
      continue;
    const found = await makePair(pair, options);
    if (found !== undefined) made.set(pair.name, found);
  }
  return made;
}

type Row = Measured & { readonly measured: string };

async function measure(
  name: string,
  { folder }: MadePair,
  here: string,
  options: BenchOptions,
  versions: Set<string>,
): Promise<Row[]> {
  const layers = await unpackedLayers(folder, here);
  const results: Row[] = [];
  if (options.withOurs) {
    const isBrief = options.isQuick;
    for (const own of await measureOurs(folder, here, isBrief)) {
      results.push({ ...own, measured: today() });
    }
  }
  const peer = options.isQuick ? BASE : options.peer;
  const peers = await measurePeers(layers, here, {
    ...(peer === undefined ? {} : { names: [peer] }),
    kept: keptFile(options.cache, name),
    measure: options.measurePeers,
  });
  for (const { version } of peers) versions.add(version);
  return [...results, ...peers];
}

/** Memory stands in MB however much it is: a goal of 1,074 MB is hidden by 1.1 GB. */
function rowsOf(pair: string, results: readonly Row[]): string[][] {
  const base = results.find((result) => result.tool === BASE)?.bytes;
  const share = (bytes: number) =>
    base === undefined ? '' : `${((100 * bytes) / base).toFixed(1)} %`;
  const cost = (one: Cost | undefined) =>
    one === undefined ? ['-', '-'] : [one.cpu.toFixed(1), `${Math.round(one.memory / 1e6)} MB`];
  return results.map(({ tool, bytes, make, apply, measured }) => [
    ...[pair, tool, String(bytes), share(bytes)],
    ...cost(make),
    ...cost(apply),
    measured,
  ]);
}
