import { Metadata, Root } from '@tufjs/models';
import { SnapgateError } from '../../shared/errors.ts';
import type { PublicKey } from '../../shared/signing/public-key.ts';
import { tufKey } from '../../shared/tuf/metadata.ts';
import { TOP_ROLES, type TopRole } from '../../shared/tuf/roles.ts';
import { type EditTime, editDelegations, editTargets, keyEntries, nextRoot } from './edit.ts';
import type { TufFolder } from './folder.ts';
import { type TufState, wantedTargets } from './state.ts';

/** What changes about the keys of a role; nothing renews it with the keys that it has. */
export type Rotation = {
  readonly add: readonly PublicKey[];
  /** Ids of keys, or the start of one. */
  readonly remove: readonly string[];
  readonly threshold: number | undefined;
};

type KeyList = { readonly keyids: readonly string[]; readonly threshold: number };

/**
 * Stages the next version of whatever names the keys of a role: a new root for the top roles, new
 * targets for a delegated one. What the role itself signed is staged anew too, since the keys that go
 * vouch for it no more. Throws USAGE.
 */
export async function rotate(
  folder: TufFolder,
  state: TufState,
  role: string,
  rotation: Rotation,
  time: EditTime,
): Promise<void> {
  const { add, remove, threshold } = rotation;
  const isRenewal = add.length === 0 && remove.length === 0 && threshold === undefined;
  const isTop = (TOP_ROLES as readonly string[]).includes(role);
  if (isTop && (role === 'root' || !isRenewal))
    await rotateTop(folder, state, role, rotation, time);
  else if (role === 'snapshot' || role === 'timestamp') {
    throw new SnapgateError('USAGE', `${role} is renewed by the gateway, or by tuf publish`);
  } else if (!isTop && !isRenewal) {
    await rotateDelegated(folder, state, role, rotation, time);
  }
  if (role === 'targets' || !isTop) await editTargets(folder, state, role, time, () => {});
}

async function rotateTop(
  folder: TufFolder,
  state: TufState,
  role: string,
  rotation: Rotation,
  time: EditTime,
): Promise<void> {
  const json = nextRoot(state, time).toJSON() as unknown as {
    keys: Record<string, unknown>;
    roles: Record<TopRole, KeyList>;
  };
  const roles = { ...json.roles, [role]: changed(role, json.roles[role as TopRole], rotation) };
  const used = new Set(Object.values(roles).flatMap(({ keyids }) => keyids));
  const known = Object.entries({ ...json.keys, ...keyEntries(rotation.add) });
  const keys = Object.fromEntries(known.filter(([id]) => used.has(id)));
  const root = Root.fromJSON(JSON.parse(JSON.stringify({ ...json, keys, roles })));
  await folder.stage('root', new Metadata(root));
}

async function rotateDelegated(
  folder: TufFolder,
  state: TufState,
  role: string,
  rotation: Rotation,
  time: EditTime,
): Promise<void> {
  if (wantedTargets(state, 'targets')?.signed.delegations?.roles?.[role] === undefined) {
    throw new SnapgateError('USAGE', `there is no role ${role}`, {
      hint: 'snapgate tuf status names them.',
    });
  }
  await editDelegations(folder, state, time, ({ keys, roles }) => {
    const next = roles.map((one) =>
      one.name === role ? { ...one, ...changed(role, one, rotation) } : one,
    );
    return { keys: { ...keys, ...keyEntries(rotation.add) }, roles: next };
  });
}

function changed(role: string, before: KeyList, { add, remove, threshold }: Rotation): KeyList {
  for (const id of remove) {
    const found = before.keyids.filter((known) => id.length >= 8 && known.startsWith(id));
    if (found.length === 1) continue;
    throw new SnapgateError('USAGE', `${role} has no key ${id}`, {
      hint: `Its keys are ${before.keyids.join(', ')}.`,
    });
  }
  const kept = before.keyids.filter((known) => !remove.some((id) => known.startsWith(id)));
  const keyids = [...new Set([...kept, ...add.map((key) => tufKey(key).keyID)])];
  const needed = threshold ?? before.threshold;
  const isOnline = role === 'snapshot' || role === 'timestamp';
  if (needed >= 1 && needed <= keyids.length && (!isOnline || needed === 1)) {
    return { keyids, threshold: needed };
  }
  throw new SnapgateError('USAGE', `${role}: ${needed} signatures of ${keyids.length} keys`, {
    hint: 'Add keys as well, or give another --threshold; the online roles have 1.',
  });
}
