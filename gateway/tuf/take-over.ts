import type { Metadata, Root, Targets } from '@tufjs/models';
import { digestHex } from '../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import { readSmallBlob } from '../../shared/oci/read-small-blob.ts';
import { listMetadata } from '../../shared/tuf/artifact.ts';
import { parseMetadata } from '../../shared/tuf/metadata.ts';
import { maxBytes, roleFile, roleOfFile, targetFile } from '../../shared/tuf/roles.ts';
import { statementOf } from '../../shared/tuf/statement.ts';
import type { TufFolder } from './folder.ts';
import { demandsOf, isSignedFor, readState, type TufState } from './state.ts';

/** Where what people signed is taken from. */
export type TakeOver = {
  /** The artifact that `snapgate tuf publish --to` wrote. */
  readonly reader: ContentReader;
  readonly tag: string;
  /** Opens a repository of images, for the manifests that are stated. */
  readonly images: (repository: string) => ContentReader;
  readonly signal?: AbortSignal | undefined;
};

/**
 * Takes newer roots and statements over from a registry, as far as they are signed by those who may.
 * Gives the names of the files that are new. Throws METADATA_MISSING, METADATA_UNSIGNED and what
 * reading throws.
 */
export async function takeOver(folder: TufFolder, from: TakeOver): Promise<string[]> {
  const files = await listMetadata(from.reader, from.tag, from.signal);
  const read = async (name: string) => {
    const layer = files.get(name) as Descriptor;
    const limit = maxBytes(roleOfFile(name) ?? 'targets');
    return readSmallBlob(from.reader, layer, limit, from.signal);
  };
  const done: string[] = [];
  let state = await readState(folder);
  for (;;) {
    const version = (state.root?.signed.version ?? 0) + 1;
    const name = roleFile('root', version);
    if (!files.has(name)) break;
    const bytes = await read(name);
    const root = parseMetadata('root', bytes, name);
    checkRoot(state, root, version);
    await folder.publish('root', version, bytes);
    done.push(name);
    state = { ...state, root };
  }
  for (const role of rolesOf(files)) {
    const name = newestFile(files, role);
    const known = state.targets.get(role)?.signed.version ?? 0;
    if (name === undefined || Number.parseInt(name, 10) <= known) continue;
    const bytes = await read(name);
    const metadata = parseMetadata('targets', bytes, name);
    state = { ...state, targets: new Map(state.targets).set(role, metadata) };
    const demands = demandsOf({ ...state, staged: new Map() }, role);
    // A role that nobody delegates to any more is of no use.
    if (demands.length === 0) continue;
    checkSigned(role, isSignedFor(metadata, demands));
    await putTargets(folder, metadata, from);
    await folder.publish(role, metadata.signed.version, bytes);
    done.push(name);
  }
  return done;
}

/** `targets` first: what it delegates decides on the others. */
function rolesOf(files: ReadonlyMap<string, unknown>): string[] {
  const roles = new Set([...files.keys()].map((name) => roleOfFile(name) ?? ''));
  const online = ['root', 'snapshot', 'timestamp', 'targets', ''];
  return ['targets', ...[...roles].filter((role) => !online.includes(role)).sort()];
}

function newestFile(files: ReadonlyMap<string, unknown>, role: string): string | undefined {
  const names = [...files.keys()].filter((name) => roleOfFile(name) === role);
  return names.sort((a, b) => Number.parseInt(b, 10) - Number.parseInt(a, 10))[0];
}

function checkRoot(state: TufState, root: Metadata<Root>, version: number): void {
  const demands = demandsOf({ ...state, staged: new Map([['root', root]]) }, 'root');
  const isGood = isSignedFor(root, demands);
  checkSigned(`root ${version}`, isGood && root.signed.version === version);
}

function checkSigned(role: string, isGood: boolean): void {
  if (isGood) return;
  throw new SnapgateError('METADATA_UNSIGNED', `${role} is not signed by enough keys`, {
    hint: 'Sign and publish it anew with snapgate tuf.',
  });
}

/** The manifests that are stated, for clients that download targets; one that is gone is left out. */
async function putTargets(
  folder: TufFolder,
  metadata: Metadata<Targets>,
  { images, signal }: TakeOver,
): Promise<void> {
  for (const target of Object.values(metadata.signed.targets)) {
    const { path, digest } = statementOf(target);
    const name = targetFile(path, digestHex(digest));
    if ((await folder.target(name)) !== undefined) continue;
    try {
      const repository = path.slice(0, path.lastIndexOf('/'));
      await folder.putTarget(name, (await images(repository).getManifest(digest, signal)).bytes);
    } catch (thrown) {
      if (toSnapgateError(thrown).httpStatus !== 404) throw thrown;
    }
  }
}
