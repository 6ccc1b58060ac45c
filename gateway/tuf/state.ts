import type { Key, Metadata, Root, Snapshot, Targets, Timestamp } from '@tufjs/models';
import { SnapgateError } from '../../shared/errors.ts';
import {
  isSigned,
  parseMetadata,
  type RoleKeys,
  signersOf,
  topRole,
} from '../../shared/tuf/metadata.ts';
import type { OfflineRole, TufFolder } from './folder.ts';

/** What a repository holds: what clients see, and what waits for signatures. */
export type TufState = {
  readonly root: Metadata<Root> | undefined;
  /** `targets` and the roles that it delegates to, by name. */
  readonly targets: ReadonlyMap<string, Metadata<Targets>>;
  readonly snapshot: Metadata<Snapshot> | undefined;
  readonly timestamp: Metadata<Timestamp> | undefined;
  readonly staged: ReadonlyMap<string, OfflineRole>;
};

/** Whose signatures a role needs. */
export type Demand = RoleKeys & {
  /** Who says so. */
  readonly by: string;
  readonly keys: Readonly<Record<string, Key>>;
};

/** Reads a repository. Throws METADATA_INVALID. */
export async function readState(folder: TufFolder): Promise<TufState> {
  const staged = await folder.staged();
  const targets = new Map<string, Metadata<Targets>>();
  const main = await readTargets(folder, 'targets');
  if (main !== undefined) targets.set('targets', main);
  for (const name of delegatedNames(main, stagedTargets(staged, 'targets'))) {
    const metadata = await readTargets(folder, name);
    if (metadata !== undefined) targets.set(name, metadata);
  }
  const read = async <Kind extends 'root' | 'snapshot' | 'timestamp'>(kind: Kind) => {
    const bytes = await folder.latest(kind);
    return bytes === undefined ? undefined : parseMetadata(kind, bytes, `${folder.dir}: ${kind}`);
  };
  const [root, snapshot, timestamp] = [
    await read('root'),
    await read('snapshot'),
    await read('timestamp'),
  ];
  return { root, targets, snapshot, timestamp, staged };
}

async function readTargets(
  folder: TufFolder,
  role: string,
): Promise<Metadata<Targets> | undefined> {
  const bytes = await folder.latest(role);
  return bytes === undefined
    ? undefined
    : parseMetadata('targets', bytes, `${folder.dir}: ${role}`);
}

function stagedTargets(staged: TufState['staged'], role: string): Metadata<Targets> | undefined {
  // Only `root` is of another kind.
  return role === 'root' ? undefined : (staged.get(role) as Metadata<Targets> | undefined);
}

/** Names of the roles that some versions of `targets` delegate to. */
export function delegatedNames(...versions: (Metadata<Targets> | undefined)[]): string[] {
  return [...new Set(versions.flatMap((one) => Object.keys(one?.signed.delegations?.roles ?? {})))];
}

/** The root as it will be: the staged one where there is one. Throws METADATA_MISSING. */
export function wantedRoot({ staged, root }: TufState): Metadata<Root> {
  const wanted = (staged.get('root') as Metadata<Root> | undefined) ?? root;
  if (wanted !== undefined) return wanted;
  throw new SnapgateError('METADATA_MISSING', 'the repository has no root', {
    hint: 'Make one with snapgate tuf init.',
  });
}

/** A targets role as it will be. */
export function wantedTargets(state: TufState, role: string): Metadata<Targets> | undefined {
  return stagedTargets(state.staged, role) ?? state.targets.get(role);
}

/** Whose signatures a role needs to be accepted after what was accepted before. */
export function demandsOf(state: TufState, role: string): Demand[] {
  const root = wantedRoot(state);
  if (role === 'root') {
    const before = state.root === undefined || state.root === root ? [] : [state.root];
    return [...before, root].map(({ signed }) => ({
      ...topRole(signed, 'root'),
      ...{ keys: signed.keys, by: `root ${signed.version}` },
    }));
  }
  if (role === 'targets') {
    const { signed } = root;
    return [{ ...topRole(signed, 'targets'), keys: signed.keys, by: `root ${signed.version}` }];
  }
  const parent = wantedTargets(state, 'targets')?.signed;
  const found = parent?.delegations?.roles?.[role];
  if (parent?.delegations === undefined || found === undefined) return [];
  const { keyIDs, threshold } = found;
  return [{ keyIDs, threshold, keys: parent.delegations.keys, by: `targets ${parent.version}` }];
}

/** Whether metadata is signed as all of them demand. */
export function isSignedFor(metadata: OfflineRole, demands: readonly Demand[]): boolean {
  return demands.every((demand) => isSigned(metadata, demand.keys, demand));
}

/** How far a staged role is signed. */
export type Signing = {
  readonly role: string;
  readonly version: number;
  readonly demands: readonly {
    readonly by: string;
    readonly threshold: number;
    /** Ids of the keys that may sign, and of those that have. */
    readonly keyIDs: readonly string[];
    readonly signed: readonly string[];
  }[];
  readonly complete: boolean;
};

/** How far the staged roles are signed. */
export function signingOf(state: TufState): Signing[] {
  return [...state.staged].map(([role, metadata]) => {
    const demands = demandsOf(state, role).map(({ by, keys, keyIDs, threshold }) => ({
      ...{ by, threshold, keyIDs },
      signed: signersOf(metadata, keys, { keyIDs, threshold }),
    }));
    const complete =
      demands.length > 0 && demands.every(({ signed, threshold }) => signed.length >= threshold);
    return { role, version: metadata.signed.version, demands, complete };
  });
}

/** What is signed offline is to be renewed so long before it ends, in milliseconds. */
const SOON_MS = 30 * 86_400_000;

/** The published roles that people must renew soon. */
export function endingSoon(
  { root, targets }: TufState,
  now: Date,
): { readonly role: string; readonly expires: string }[] {
  const published = [...(root === undefined ? [] : [['root', root] as const]), ...targets];
  return published
    .map(([role, { signed }]) => ({ role, expires: signed.expires }))
    .filter(({ expires }) => Date.parse(expires) - now.getTime() < SOON_MS);
}
