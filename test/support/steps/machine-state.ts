import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeTree } from '../tree.ts';
import { type DiskMachine, host } from './disk-machine.ts';

const hash = (bytes: string | Buffer) => createHash('sha256').update(bytes).digest('hex');
const names = (folder: string) => (existsSync(folder) ? readdirSync(folder).sort() : []);
// biome-ignore lint/suspicious/noExplicitAny: tests look into whatever a record says.
const json = (path: string): any => JSON.parse(readFileSync(path, 'utf8'));

/** A deployment's whole tree as one digest: what "complete" means. */
export function treeDigest(machine: DiskMachine, id: string): string {
  // Times, and the links of folders, depend on when and how a tree was made.
  const lines = describeTree(join(machine.deployments, id), 0).map((line) =>
    line.replace(/ =[^ ]*$/, ''),
  );
  return hash(lines.join('\n'));
}

/** Ids of all deployments. */
export function deploymentIds(machine: DiskMachine): string[] {
  return names(machine.deployments).filter((name) => /^[0-9a-f]{12}-\d+$/.test(name));
}

/** The deployment that boots next. Throws unless all that it boots with is there. */
export function bootsNext(machine: DiskMachine): string {
  if (machine.hasEntries) return firstEntry(machine);
  const listed = host('btrfs', 'subvolume', 'get-default', machine.root);
  return / path @deployments\/(\S+)$/.exec(listed)?.[1] ?? 'none';
}

/**
 * The deployment that a boot loader takes, by the Boot Loader Specification: of entries with tries
 * left the one of the highest version. Throws unless its kernel is whole, and its root is there.
 */
function firstEntry(machine: DiskMachine): string {
  const folder = join(machine.boot, 'loader/entries');
  const entries = names(folder)
    .filter((name) => name.endsWith('.conf'))
    .map((name) => ({ name, text: readFileSync(join(folder, name), 'utf8') }))
    .map(({ name, text }) => ({
      value: (key: string) => new RegExp(`^${key} (.*)$`, 'm').exec(text)?.[1] ?? '',
      isSpent: /\+0(-\d+)?\.conf$/.test(name),
    }))
    .filter(({ isSpent }) => !isSpent)
    .sort((a, b) => (a.value('version') < b.value('version') ? 1 : -1));
  const [first] = entries;
  if (first === undefined) throw new Error('nothing boots');
  for (const key of ['linux', 'initrd']) {
    const path = first.value(key);
    const digest = hash(readFileSync(join(machine.boot, path)));
    if (!path.startsWith(`/snapgate/${digest.slice(0, 32)}-`)) throw new Error(`damaged: ${path}`);
  }
  const id = /rootflags=subvol=@deployments\/(\S+)/.exec(first.value('options'))?.[1] ?? '';
  host('btrfs', 'subvolume', 'show', join(machine.deployments, id, 'etc'));
  return id;
}

/**
 * All that a machine keeps, but for times and random names: equal after equal commands. A command that
 * must work whatever happens removes no temporary files (`isTidy` false); those wait for an update.
 */
export function machineState(machine: DiskMachine, isTidy = true): object {
  const storage = join(machine.root, 'var/lib/containers/storage');
  const state = join(machine.root, 'var/lib/snaphost');
  const records = names(machine.deployments).filter((name) => /-\d+\.json$/.test(name));
  const found = names(machine.deployments);
  const failures = join(machine.deployments, 'failed.json');
  return {
    deployments: found.filter((name) => isTidy || !name.endsWith('.tmp')),
    records: records.map((name) => {
      const { id, state, manifest, reason } = json(join(machine.deployments, name));
      return { id, state, manifest, reason };
    }),
    failed: existsSync(failures)
      ? json(failures).failed.map((one: { manifest: string }) => one.manifest)
      : [],
    trees: deploymentIds(machine).map((id) => treeDigest(machine, id)),
    entries: names(join(machine.boot, 'loader/entries')),
    kernels: names(join(machine.boot, 'snapgate')),
    boots: bootsNext(machine),
    state: names(state),
    downloads: names(join(state, 'downloads')),
    subvolumes: names(join(storage, 'btrfs/subvolumes')),
    tarSplits: names(join(storage, 'btrfs-layers')).filter((name) => name.endsWith('.gz')),
    halfWritten: names(join(storage, 'btrfs-layers')).filter((name) => name.endsWith('.tmp')),
    layers: json(join(storage, 'btrfs-layers/layers.json')).map(({ id }: { id: string }) => id),
    images: json(join(storage, 'btrfs-images/images.json')).map(
      ({ id, names }: { id: string; names?: string[] }) => [id, ...(names ?? [])],
    ),
    // An empty folder for parts counts for nothing.
    work: names(join(storage, 'snapgate')).filter((name) => name !== 'parts'),
    parts: names(join(storage, 'snapgate/parts')),
    staging: names(join(storage, 'snapgate/staging')),
  };
}
