import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Cost, run, runWell } from './cost.ts';
import type { Measured } from './kept-results.ts';

const GATEWAY = fileURLToPath(new URL('../../../gateway/main.ts', import.meta.url));
/** The exit status of a delta that would not be smaller than the image. */
const REFUSED = 'DELTA_REFUSED';

type Ours = {
  readonly name: string;
  readonly args: readonly string[];
  /** Leaves an index of the files' content, with which the same delta is made once more. */
  readonly fillsIndex?: boolean;
};

/** By what the machines can do that the delta is for. */
const OURS: readonly Ours[] = [
  { name: 'snapgate, 1 GiB to encode', args: ['--encoder-memory', '1024'] },
  { name: 'snapgate', args: [], fillsIndex: true },
  { name: 'snapgate, plain', args: ['--no-recompress'] },
  { name: 'snapgate, tar-diff', args: ['--format', 'tar-diff'] },
];
const INDEX_KEPT = 'snapgate, index kept';

type Created =
  | { readonly layers: readonly { readonly bytes: number }[]; readonly platforms: Platforms }
  | { readonly error: { readonly code: string; readonly message: string } };
type Platforms = readonly { readonly artifact: string }[];
type Made = Omit<Measured, 'tool' | 'apply'> & { readonly artifact?: string | undefined };

/**
 * Makes our deltas of the images in a folder and applies them; `isBrief` for common machines alone.
 * Throws when one gives back other bytes.
 */
export async function measureOurs(
  folder: string,
  here: string,
  isBrief: boolean,
): Promise<Measured[]> {
  const results: Measured[] = [];
  for (const { name, args, fillsIndex = false } of OURS) {
    if (isBrief && !fillsIndex) continue;
    const index = join(here, 'index');
    const indexed = fillsIndex ? [...args, '--index-dir', index] : args;
    const made = await make(folder, here, indexed);
    const { bytes, make: cost, artifact } = made;
    if (artifact === undefined) results.push({ tool: name, bytes, make: cost });
    else results.push({ tool: name, bytes, make: cost, apply: await apply(here) });
    if (!fillsIndex || artifact === undefined) continue;
    const again = await make(folder, here, indexed);
    if (again.artifact !== artifact) throw new Error('with the index kept the delta is another');
    results.push({ tool: INDEX_KEPT, bytes: again.bytes, make: again.make });
    // Of very many files nothing is kept.
    await rm(index, { recursive: true, force: true });
  }
  await rm(join(here, 'ours'), { recursive: true, force: true });
  return results;
}

/** Only layers that travel are counted. Without a delta, the image is pulled. */
async function make(folder: string, here: string, args: readonly string[]): Promise<Made> {
  const out = join(here, 'ours');
  await rm(out, { recursive: true, force: true });
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
  return { bytes, make: made.cost, artifact: created.platforms[0]?.artifact };
}

async function apply(here: string): Promise<Cost> {
  const rebuilt = join(here, 'rebuilt');
  const applied = await runWell(here, process.execPath, [
    ...[GATEWAY, 'delta', 'apply', '--json', '--temporary-dir', here],
    ...['--source-tree', join(here, 'tree'), '--source', `oci:${here}/plain:v1`],
    ...['--delta', `oci:${here}/ours:d`, '--output', `oci:${rebuilt}:v2`],
  ]);
  const { missing } = JSON.parse(applied.out) as { missing: string[] };
  if (missing.length > 0) throw new Error(`layers were not rebuilt: ${missing.join(', ')}`);
  await rm(rebuilt, { recursive: true });
  return applied.cost;
}
