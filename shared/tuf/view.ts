import type { Metadata, Root, Snapshot, Targets, Timestamp } from '@tufjs/models';
import { SnapgateError } from '../errors.ts';
import { type AnySigned, issuedAt, type RoleKeys, topRole } from './metadata.ts';
import { MAX_DELEGATIONS } from './roles.ts';
import { type Statement, statementOf } from './statement.ts';

/** Metadata whose signatures, versions and hashes were checked already. */
export type TrustedView = {
  readonly root: Metadata<Root>;
  readonly timestamp: Metadata<Timestamp>;
  readonly snapshot: Metadata<Snapshot>;
  /** A targets role by its name; undefined for one that is not at hand. */
  targets(role: string): Metadata<Targets> | undefined;
};

/** A statement with the role that made it. */
export type FoundStatement = {
  readonly statement: Statement;
  readonly role: string;
  /** Version of the role's metadata, which grows with each statement. */
  readonly version: number;
  /** Ids of the keys that may sign for the role, in order. */
  readonly keyIDs: readonly string[];
};

/**
 * Finds who speaks of a path: `targets` first, then the roles that it delegates the path to, in
 * order and in depth (TUF specification 1.0, section 5.6.7). What a role says of paths that are not
 * delegated to it counts for nothing. Throws METADATA_INVALID.
 */
export function findStatement(view: TrustedView, path: string): FoundStatement | undefined {
  type Visit = { readonly role: string; readonly keys: RoleKeys };
  const visits: Visit[] = [{ role: 'targets', keys: topRole(view.root.signed, 'targets') }];
  const seen = new Set<string>();
  while (visits.length > 0 && seen.size <= MAX_DELEGATIONS) {
    const { role, keys } = visits.pop() as Visit;
    const signed = seen.has(role) ? undefined : view.targets(role)?.signed;
    seen.add(role);
    if (signed === undefined) continue;
    const target = Object.hasOwn(signed.targets, path) ? signed.targets[path] : undefined;
    if (target !== undefined) {
      const { version } = signed;
      const keyIDs = [...keys.keyIDs].sort();
      return { statement: statementOf(target), role, version, keyIDs };
    }
    const children: Visit[] = [];
    for (const child of signed.delegations?.rolesForTarget(path) ?? []) {
      const keys = signed.delegations?.roles?.[child.role];
      if (keys !== undefined) children.push({ role: child.role, keys });
      if (!child.terminating) continue;
      visits.length = 0;
      break;
    }
    visits.push(...children.reverse());
  }
  return undefined;
}

/** The error for a channel of which nobody who may has said anything. */
export function channelUnknown(where: string): SnapgateError {
  return new SnapgateError('CHANNEL_UNKNOWN', 'nobody who may has said what this channel means', {
    where,
    hint: 'Publish a statement with snapgate tuf add, by a role that may speak of it.',
  });
}

/** What a statement by a role rests on: root, timestamp, snapshot, targets and the role itself. */
function basisOf(view: TrustedView, role: string): [name: string, signed: AnySigned][] {
  const { root, timestamp, snapshot } = view;
  const all: Record<string, AnySigned | undefined> = {
    ...{ root: root.signed, timestamp: timestamp.signed, snapshot: snapshot.signed },
    ...{ targets: view.targets('targets')?.signed, [role]: view.targets(role)?.signed },
  };
  return Object.entries(all).flatMap(([name, signed]) => (signed ? [[name, signed]] : []));
}

/**
 * Refuses what has expired at a time: root, timestamp, snapshot and the role of a statement. Throws
 * METADATA_EXPIRED.
 */
export function refuseExpired(view: TrustedView, role: string, now: Date, where: string): void {
  for (const [name, signed] of basisOf(view, role)) {
    if (now.getTime() < Date.parse(signed.expires)) continue;
    throw new SnapgateError('METADATA_EXPIRED', `${name} expired at ${signed.expires}`, {
      where,
      hint: EXPIRED_HINT,
    });
  }
}

/** When the first part of what a statement by a role rests on expires. */
export function expiryOf(view: TrustedView, role: string): Date {
  return new Date(Math.min(...basisOf(view, role).map(([, { expires }]) => Date.parse(expires))));
}

export const EXPIRED_HINT =
  "See that the gateway signs timestamps, and that this machine's clock is right.";

/**
 * Refuses metadata that was signed too long ago. Metadata that does not say when cannot be judged,
 * and is refused too. Throws METADATA_FROZEN.
 */
export function refuseAged(
  { timestamp }: Pick<TrustedView, 'timestamp'>,
  maximumSeconds: number,
  now: Date,
  where: string,
): void {
  const at = issuedAt(timestamp.signed);
  const seconds = at === undefined ? undefined : (now.getTime() - at.getTime()) / 1000;
  if (seconds !== undefined && seconds <= maximumSeconds) return;
  const age =
    at === undefined ? 'it does not say when it was signed' : `it was signed at ${timeText(at)}`;
  throw new SnapgateError('METADATA_FROZEN', `the channel is not as new as asked for: ${age}`, {
    where,
    hint: `The policy allows ${maximumSeconds} s. See that the gateway signs timestamps.`,
  });
}

function timeText(time: Date): string {
  return time.toISOString();
}
