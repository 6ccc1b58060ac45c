import { existsSync } from 'node:fs';
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { addCosts, type Cost, isInstalled, NO_COST, runWell } from './cost.ts';
import { type LayerPair, sha256Of, treeOf } from './image.ts';

/** A tool that makes one file from another. */
type Peer = {
  readonly name: string;
  readonly program: string;
  make(layer: LayerPair, out: string): readonly string[];
  /** How it gives back the new file. */
  apply(layer: LayerPair, delta: string, out: string): readonly string[];
};

const LONG = '--long=30';

const PEERS: readonly Peer[] = [
  {
    ...{ name: 'tar-diff', program: 'tar-diff' },
    make: ({ old, fresh }, out) => ['tar-diff', old, fresh, out],
    apply: ({ old }, delta, out) => ['tar-patch', delta, treeOf(old), out],
  },
  {
    ...{ name: 'xdelta3 -9', program: 'xdelta3' },
    make: ({ old, fresh }, out) => ['xdelta3', '-9', '-e', '-q', '-s', old, fresh, out],
    apply: ({ old }, delta, out) => ['xdelta3', '-d', '-q', '-s', old, delta, out],
  },
  {
    ...{ name: 'zstd --patch-from -19', program: 'zstd' },
    make: ({ old, fresh }, out) => [
      ...['zstd', '-q', '-19', LONG, `--patch-from=${old}`, fresh, '-o', out],
    ],
    apply: ({ old }, delta, out) => [
      ...['zstd', '-q', '-d', LONG, `--patch-from=${old}`, delta, '-o', out],
    ],
  },
  {
    ...{ name: 'zstd -19, whole', program: 'zstd' },
    make: ({ fresh }, out) => ['zstd', '-q', '-19', fresh, '-o', out],
    apply: (_, delta, out) => ['zstd', '-q', '-d', delta, '-o', out],
  },
];

export type PeerResult = {
  readonly tool: string;
  readonly bytes: number;
  readonly make: Cost;
  readonly apply?: Cost;
};

/** Which tools, and the file that keeps what was measured of them: it takes long. */
export type PeerOptions = { readonly names?: readonly string[]; readonly kept: string };

/** What the tools that are installed need for layers. Each result is checked. */
export async function measurePeers(
  layers: readonly LayerPair[],
  here: string,
  { names, kept }: PeerOptions,
): Promise<PeerResult[]> {
  const of = await Promise.all(layers.map(async ({ fresh }) => sha256Of(fresh)));
  const known = await readKept(kept, of);
  const wanted = (name: string, program: string) =>
    isInstalled(program) && names?.includes(name) !== false;
  const all = [
    ...PEERS.map((peer) => ({ ...peer, measure: () => measure(peer, layers, of, here) })),
    { name: 'casync, chunks', program: 'casync', measure: () => chunks(layers, here) },
  ];
  const results: PeerResult[] = [];
  for (const { name, program, measure } of all) {
    if (!wanted(name, program)) continue;
    const result = known.get(name) ?? { tool: name, ...(await measure()) };
    results.push(result);
    known.set(name, result);
    await writeFile(kept, JSON.stringify({ of, results: [...known.values()] }));
  }
  return results;
}

async function readKept(file: string, of: readonly string[]): Promise<Map<string, PeerResult>> {
  type Kept = { readonly of: readonly string[]; readonly results: readonly PeerResult[] };
  const kept = existsSync(file) ? (JSON.parse(await readFile(file, 'utf8')) as Kept) : undefined;
  if (kept === undefined || kept.of.join() !== of.join()) return new Map();
  return new Map(kept.results.map((result) => [result.tool, result]));
}

async function measure(
  peer: Peer,
  layers: readonly LayerPair[],
  of: readonly string[],
  here: string,
) {
  let bytes = 0;
  let make = NO_COST;
  let apply = NO_COST;
  const [delta, rebuilt] = [join(here, 'peer'), join(here, 'peer-rebuilt')];
  for (const [i, layer] of layers.entries()) {
    const [maker = '', ...makeArgs] = peer.make(layer, delta);
    make = addCosts(make, (await runWell(here, maker, makeArgs)).cost);
    bytes += (await stat(delta)).size;
    const [patcher = '', ...args] = peer.apply(layer, delta, rebuilt);
    apply = addCosts(apply, (await runWell(here, patcher, args)).cost);
    if ((await sha256Of(rebuilt)) !== of[i]) {
      throw new Error(`${peer.name} gives back other bytes`);
    }
    await rm(delta);
    await rm(rebuilt);
  }
  return { bytes, make, apply };
}

/** Content-defined chunks of the new files that the old ones have not, and the lists of chunks. */
async function chunks(layers: readonly LayerPair[], here: string) {
  const store = join(here, 'chunks');
  const index = join(here, 'list.caibx');
  let bytes = 0;
  let make = NO_COST;
  const add = (file: string) =>
    runWell(here, 'casync', ['make', '--compression=zstd', `--store=${store}`, index, file]);
  for (const old of new Set(layers.map((layer) => layer.old))) await add(old);
  const before = await storedBytes(store);
  for (const { fresh } of layers) {
    make = addCosts(make, (await add(fresh)).cost);
    bytes += (await stat(index)).size;
  }
  bytes += (await storedBytes(store)) - before;
  await rm(store, { recursive: true });
  await rm(index);
  return { bytes, make };
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
