import { Metadata, Root, Targets } from '@tufjs/models';
import { digestHex } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import type { PublicKey } from '../../shared/signing/public-key.ts';
import { timeAfter, tufKey } from '../../shared/tuf/metadata.ts';
import {
  delegatedPaths,
  isDelegatedRole,
  type TopRole,
  targetFile,
} from '../../shared/tuf/roles.ts';
import { type Statement, targetOf } from '../../shared/tuf/statement.ts';
import type { TufFolder } from './folder.ts';
import { type TufState, wantedRoot, wantedTargets } from './state.ts';

const DAY = 86_400;
/** How long what is signed offline holds, in days, when nothing else is said. */
export const DEFAULT_DAYS = { root: 365, targets: 90 } as const;

/** The keys of a role and how many of them must sign. */
export type RoleSetup = { readonly keys: readonly PublicKey[]; readonly threshold: number };

/** When an edit is made, and for how many days its result holds. */
export type EditTime = { readonly now: Date; readonly days?: number | undefined };

/** Stages the first root, and targets that state nothing yet. Throws USAGE. */
export async function initRepository(
  folder: TufFolder,
  setup: Readonly<Record<TopRole, RoleSetup>>,
  { now, days }: EditTime,
): Promise<void> {
  const root = new Root({
    ...{ version: 1, specVersion: '1.0.31', consistentSnapshot: true },
    expires: timeAfter(now, (days ?? DEFAULT_DAYS.root) * DAY),
  });
  for (const [role, { keys, threshold }] of Object.entries(setup)) {
    checkSetup(role, new Set(keys.map(({ hint }) => hint)).size, threshold);
    for (const key of keys) root.addKey(tufKey(key), role);
    const found = root.roles[role];
    if (found !== undefined) root.roles[role] = withThreshold(found, threshold);
  }
  await folder.stage('root', new Metadata(root));
  await folder.stage('targets', new Metadata(newTargets(now)));
}

function newTargets(now: Date): Targets {
  const expires = timeAfter(now, DEFAULT_DAYS.targets * DAY);
  return new Targets({ version: 1, specVersion: '1.0.31', expires, targets: {} });
}

function withThreshold<Role extends { threshold: number }>(role: Role, threshold: number): Role {
  return Object.assign(role, { threshold });
}

function checkSetup(role: string, keys: number, threshold: number): void {
  const isOnline = role === 'snapshot' || role === 'timestamp';
  if (isOnline && threshold !== 1) {
    throw new SnapgateError('USAGE', `${role} is signed by one key, online`);
  }
  if (threshold >= 1 && threshold <= keys) return;
  throw new SnapgateError('USAGE', `${role}: ${threshold} signatures of ${keys} keys`, {
    hint: 'Name at least as many different keys as must sign.',
  });
}

/**
 * States what a channel means, and keeps the manifest as its target. In the delegated role that is
 * named, or in `targets`. Throws USAGE for a role that may not speak of the channel.
 */
export async function addTarget(
  folder: TufFolder,
  state: TufState,
  {
    role,
    statement,
    stored,
  }: {
    readonly role: string;
    readonly statement: Statement;
    readonly stored: StoredManifest;
  },
  time: EditTime,
): Promise<void> {
  const { path } = statement;
  const parent = wantedTargets(state, 'targets')?.signed.delegations?.roles?.[role];
  if (role !== 'targets' && parent?.isDelegatedPath(path) !== true) {
    throw new SnapgateError('USAGE', `${role} may not speak of ${path}`, {
      hint: 'See what is delegated with snapgate tuf status.',
    });
  }
  await editTargets(folder, state, role, time, (targets) => targets.addTarget(targetOf(statement)));
  await folder.putTarget(targetFile(path, digestHex(stored.digest)), stored.bytes);
}

/** Takes back what is stated of a channel. Throws CHANNEL_UNKNOWN. */
export async function removeTarget(
  folder: TufFolder,
  state: TufState,
  role: string,
  path: string,
  time: EditTime,
): Promise<void> {
  if (wantedTargets(state, role)?.signed.targets[path] === undefined) {
    throw new SnapgateError('CHANNEL_UNKNOWN', `${role} states nothing of it`, { where: path });
  }
  await editTargets(folder, state, role, time, (targets) => {
    delete targets.targets[path];
  });
}

/** Lets a role of its own keys speak of the channels of a repository pattern. Throws USAGE. */
export async function delegate(
  folder: TufFolder,
  state: TufState,
  role: string,
  { pattern, keys, threshold }: RoleSetup & { readonly pattern: string },
  time: EditTime,
): Promise<void> {
  if (!isDelegatedRole(role)) {
    throw new SnapgateError('USAGE', `not a name for a role: ${role}`, {
      hint: 'Use lower-case letters, digits, - and _.',
    });
  }
  checkSetup(role, new Set(keys.map(({ hint }) => hint)).size, threshold);
  const entry = {
    ...{ name: role, threshold, terminating: true, paths: delegatedPaths(pattern) },
    keyids: keys.map((key) => tufKey(key).keyID),
  };
  await editDelegations(folder, state, time, ({ keys: known, roles }) => ({
    keys: { ...known, ...keyEntries(keys) },
    roles: [...roles.filter(({ name }) => name !== role), entry],
  }));
  if (wantedTargets(state, role) === undefined) {
    await folder.stage(role, new Metadata(newTargets(time.now)));
  }
}

/** Keys as metadata writes them, by their ids. */
export function keyEntries(keys: readonly PublicKey[]): Record<string, unknown> {
  return Object.fromEntries(keys.map(tufKey).map((key) => [key.keyID, key.toJSON()]));
}

/** Delegations as metadata writes them (TUF specification 1.0, section 4.5). */
type DelegationsJson = {
  readonly keys: Readonly<Record<string, unknown>>;
  readonly roles: readonly {
    readonly name: string;
    readonly keyids: readonly string[];
    readonly threshold: number;
    readonly terminating: boolean;
    readonly paths?: readonly string[];
  }[];
};

/** Stages the next version of `targets` with other delegations; keys that nobody uses go. */
export async function editDelegations(
  folder: TufFolder,
  state: TufState,
  time: EditTime,
  edit: (delegations: DelegationsJson) => DelegationsJson,
): Promise<void> {
  const before = nextTargets(state, 'targets', time).toJSON();
  const { keys, roles } = edit(
    (before.delegations ?? { keys: {}, roles: [] }) as unknown as DelegationsJson,
  );
  const used = new Set(roles.flatMap(({ keyids }) => keyids));
  const kept = Object.fromEntries(Object.entries(keys).filter(([id]) => used.has(id)));
  const json = JSON.parse(JSON.stringify({ ...before, delegations: { keys: kept, roles } }));
  await folder.stage('targets', new Metadata(Targets.fromJSON(json)));
}

/** Stages the next version of a targets role. */
export async function editTargets(
  folder: TufFolder,
  state: TufState,
  role: string,
  time: EditTime,
  edit: (targets: Targets) => void,
): Promise<void> {
  const next = nextTargets(state, role, time);
  edit(next);
  await folder.stage(role, new Metadata(next));
}

/** The version after the published one, with what is staged already, without signatures. */
function nextTargets(state: TufState, role: string, { now, days }: EditTime): Targets {
  const known = wantedTargets(state, role);
  if (known === undefined) {
    throw new SnapgateError('USAGE', `there is no role ${role}`, {
      hint: 'Make it with snapgate tuf delegate.',
    });
  }
  const version = (state.targets.get(role)?.signed.version ?? 0) + 1;
  const expires = timeAfter(now, (days ?? DEFAULT_DAYS.targets) * DAY);
  return Targets.fromJSON({ ...known.signed.toJSON(), version, expires });
}

/** The root after the published one, with what is staged already, without signatures. */
export function nextRoot(state: TufState, { now, days }: EditTime): Root {
  const version = (state.root?.signed.version ?? 0) + 1;
  const expires = timeAfter(now, (days ?? DEFAULT_DAYS.root) * DAY);
  return Root.fromJSON({ ...wantedRoot(state).signed.toJSON(), version, expires });
}
