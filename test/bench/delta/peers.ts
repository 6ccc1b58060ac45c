import { spawnSync } from 'node:child_process';
import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isInstalled, OTHER_TOOLS, type OtherTool } from '../../../gateway/delta/other-tools.ts';
import { addCosts, NO_COST, runWell } from './cost.ts';
import { type LayerPair, sha256Of } from './image.ts';
import { type KeptResult, KeptResults, type Measured, today } from './kept-results.ts';

type Restore = (layer: LayerPair, delta: string, out: string) => readonly string[];

const LONG = '--long=30';

/** How the tools that `delta compare` calls give back the new file, by their names there. */
const RESTORE: Readonly<Record<string, Restore>> = {
  'tar-diff': ({ tree }, delta, out) => ['tar-patch', delta, tree, out],
  'xdelta3 -9': ({ old }, delta, out) => ['xdelta3', '-d', '-q', '-s', old, delta, out],
  'zstd -19 --patch-from': ({ old }, delta, out) => [
    ...['zstd', '-q', '-d', LONG, `--patch-from=${old}`, delta, '-o', out],
  ],
  'zstd -19, whole': (_, delta, out) => ['zstd', '-q', '-d', delta, '-o', out],
};

/** How each program tells its version, on whichever output. */
const VERSION_FLAGS: Readonly<Record<string, string>> = { 'tar-diff': '-version', xdelta3: '-V' };
const VERSION = /(?:version |\bv|^\w+ )(\d[\d.]*)/i;

type Measure = (layers: readonly LayerPair[], here: string) => Promise<Omit<Measured, 'tool'>>;
type Peer = { readonly name: string; readonly program: string; readonly measure: Measure };

const PEERS: readonly Peer[] = [
  ...OTHER_TOOLS.map((tool): Peer => {
    const { name, program } = tool;
    return { name, program, measure: (layers, here) => measureTool(tool, layers, here) };
  }),
  { name: 'casync, chunks', program: 'casync', measure: measureChunks },
];

/** Names of all tools that are known, installed or not. */
export const PEER_NAMES = PEERS.map(({ name }) => name);

export type PeerOptions = {
  /** Which tools; all that are installed when absent. */
  readonly names?: readonly string[];
  /** The file that keeps what was measured. */
  readonly kept: string;
  /** What is measured: what is not kept, everything, or nothing. */
  readonly measure: 'new' | 'all' | 'none';
};

/** What the tools that are installed need for layers. Each result is checked. */
export async function measurePeers(
  layers: readonly LayerPair[],
  here: string,
  { names, kept, measure: which }: PeerOptions,
): Promise<KeptResult[]> {
  const files = layers.flatMap(({ old, fresh }) => [old, fresh]);
  const known = await KeptResults.open(kept, await Promise.all(files.map(sha256Of)));
  const results: KeptResult[] = [];
  for (const { name, program, measure } of PEERS) {
    if (names?.includes(name) === false || !(await isInstalled(program))) continue;
    const version = `${program} ${versionOf(program)}`;
    let result = which === 'all' ? undefined : known.find(name, version);
    if (result === undefined) {
      if (which === 'none') continue;
      process.stderr.write(`  measuring ${name}\n`);
      result = { tool: name, ...(await measure(layers, here)), version, measured: today() };
      await known.keep(result);
    }
    results.push(result);
  }
  return results;
}

function versionOf(program: string): string {
  const { stdout, stderr } = spawnSync(program, [VERSION_FLAGS[program] ?? '--version'], {
    encoding: 'utf8',
  });
  return VERSION.exec(stdout.trim() || stderr.trim())?.[1] ?? 'of unknown version';
}

async function measureTool(
  tool: OtherTool,
  layers: readonly LayerPair[],
  here: string,
): Promise<Omit<Measured, 'tool'>> {
  const restore = RESTORE[tool.name];
  if (restore === undefined) throw new RangeError(`how to apply ${tool.name} is not known`);
  let bytes = 0;
  let make = NO_COST;
  let apply = NO_COST;
  const [delta, rebuilt] = [join(here, 'peer'), join(here, 'peer-rebuilt')];
  for (const layer of layers) {
    const makeArgs = tool.arguments(layer.old, layer.fresh, delta);
    make = addCosts(make, (await runWell(here, tool.program, makeArgs)).cost);
    bytes += (await stat(delta)).size;
    const [patcher = '', ...args] = restore(layer, delta, rebuilt);
    apply = addCosts(apply, (await runWell(here, patcher, args)).cost);
    await checkSame(tool.name, layer.fresh, rebuilt);
    await rm(delta);
    await rm(rebuilt);
  }
  return { bytes, make, apply };
}

/** Content-defined chunks of the new files that the old ones have not, and the lists of chunks. */
async function measureChunks(
  layers: readonly LayerPair[],
  here: string,
): Promise<Omit<Measured, 'tool'>> {
  const [store, rebuilt] = [join(here, 'chunks'), join(here, 'peer-rebuilt')];
  let bytes = 0;
  let make = NO_COST;
  let apply = NO_COST;
  const casync = async (...args: readonly string[]) =>
    (await runWell(here, 'casync', [...args, '--compression=zstd', `--store=${store}`])).cost;
  const list = join(here, 'list.caibx');
  for (const old of new Set(layers.map((layer) => layer.old))) await casync('make', list, old);
  const before = await storedBytes(store);
  for (const { old, fresh } of layers) {
    make = addCosts(make, await casync('make', list, fresh));
    bytes += (await stat(list)).size;
    apply = addCosts(apply, await casync('extract', list, rebuilt, `--seed=${old}`));
    await checkSame('casync', fresh, rebuilt);
    await rm(rebuilt);
  }
  bytes += (await storedBytes(store)) - before;
  await rm(store, { recursive: true });
  await rm(list);
  return { bytes, make, apply };
}

async function checkSame(tool: string, fresh: string, rebuilt: string): Promise<void> {
  if ((await sha256Of(rebuilt)) === (await sha256Of(fresh))) return;
  throw new Error(`${tool} gives back other bytes`);
}

async function storedBytes(store: string): Promise<number> {
  let sum = 0;
  for (const folder of await readdir(store)) {
    for (const name of await readdir(join(store, folder))) {
      sum += (await stat(join(store, folder, name))).size;
    }
  }
  return sum;
}
