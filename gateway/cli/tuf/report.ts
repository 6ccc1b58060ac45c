import type { CommandIo } from '../../../shared/cli/command.ts';
import { formatTable } from '../../../shared/cli/format.ts';
import type { Digest } from '../../../shared/digest.ts';
import { statementOf } from '../../../shared/tuf/statement.ts';
import type { TufFolder } from '../../tuf/folder.ts';
import {
  delegatedNames,
  demandsOf,
  endingSoon,
  readState,
  type Signing,
  signingOf,
  type TufState,
} from '../../tuf/state.ts';

/** What every `tuf` command prints. */
export type TufReport = {
  readonly folder: string;
  /** What was done, in words. */
  readonly done: readonly string[];
  /** What is published. */
  readonly roles: readonly {
    readonly role: string;
    readonly version: number;
    readonly expires: string;
    readonly threshold: number;
    /** Ids of the keys that may sign. */
    readonly keyIDs: readonly string[];
  }[];
  readonly channels: readonly {
    readonly path: string;
    readonly role: string;
    readonly digest: Digest;
    readonly version: string | null;
  }[];
  /** What waits for signatures. */
  readonly staged: readonly Signing[];
  /** What to do next. */
  readonly next: readonly string[];
};

/** Reports on a repository after something was done. */
export async function reportOn(
  folder: TufFolder,
  done: readonly string[],
  now = new Date(),
): Promise<TufReport> {
  const state = await readState(folder);
  const published = { ...state, staged: new Map() };
  const roles = [
    ...(state.root === undefined ? [] : [['root', state.root] as const]),
    ...state.targets,
    ...(state.snapshot === undefined ? [] : [['snapshot', state.snapshot] as const]),
    ...(state.timestamp === undefined ? [] : [['timestamp', state.timestamp] as const]),
  ].map(([role, { signed }]) => {
    const demand = isOnline(role) ? state.root?.signed.roles[role] : lastDemand(published, role);
    const { keyIDs = [], threshold = 0 } = demand ?? {};
    return { role, version: signed.version, expires: signed.expires, threshold, keyIDs };
  });
  const channels = [...state.targets].flatMap(([role, { signed }]) =>
    Object.values(signed.targets).map((target) => {
      const { path, digest, version = null } = statementOf(target);
      return { path, role, digest, version };
    }),
  );
  const staged = signingOf(state);
  const next = nextSteps(state, staged, folder.dir, now);
  return { folder: folder.dir, done, roles, channels, staged, next };
}

function isOnline(role: string): boolean {
  return role === 'snapshot' || role === 'timestamp';
}

function lastDemand(state: TufState, role: string) {
  return state.root === undefined ? undefined : demandsOf(state, role).at(-1);
}

function nextSteps(state: TufState, staged: readonly Signing[], dir: string, now: Date): string[] {
  const open = staged.filter(({ complete }) => !complete);
  if (open.length > 0) {
    return [
      ...open.map(lacking),
      `Sign with a key that may: snapgate tuf sign ${dir} --key FILE`,
      'On another machine, copy the folder there and back.',
    ];
  }
  if (staged.length > 0) return [`Publish it: snapgate tuf publish ${dir}`];
  if (!isCovered(state)) {
    return [
      `Let the gateway sign snapshot and timestamp: set tuf.folder to ${dir} and name its keys.`,
      `Or here: snapgate tuf publish ${dir} --snapshot-key FILE --timestamp-key FILE`,
    ];
  }
  const renewals = endingSoon(state, now).map(
    ({ role, expires }) =>
      `${role} ends at ${expires}; renew it: snapgate tuf rotate ${dir} --role ${role}`,
  );
  if (renewals.length > 0) return renewals;
  const isEmpty = [...state.targets.values()].every(
    ({ signed }) => Object.keys(signed.targets).length === 0,
  );
  return isEmpty
    ? [`State what a tag means: snapgate tuf add ${dir} REF --as REPOSITORY:TAG`]
    : [`Machines need ${dir}/metadata/1.root.json in channelRoots of their policy.`];
}

function lacking({ role, version, demands }: Signing): string {
  const parts = demands
    .filter(({ signed, threshold }) => signed.length < threshold)
    .map(({ by, signed, threshold, keyIDs }) => {
      const left = keyIDs.filter((id) => !signed.includes(id)).map((id) => id.slice(0, 12));
      return `${signed.length} of ${threshold} by ${by} (${left.join(', ')})`;
    });
  return `${role} ${version} has too few signatures: ${parts.join('; ')}`;
}

/** Whether snapshot and timestamp stand for what is published. */
function isCovered({ targets, snapshot, timestamp }: TufState): boolean {
  if (snapshot === undefined || timestamp === undefined) return false;
  if (timestamp.signed.snapshotMeta.version !== snapshot.signed.version) return false;
  return ['targets', ...delegatedNames(targets.get('targets'))].every(
    (role) => snapshot.signed.meta[`${role}.json`]?.version === targets.get(role)?.signed.version,
  );
}

/** Prints what was done and what comes next. */
export function printSteps({ done, next }: TufReport, { out }: CommandIo): void {
  for (const line of done) out.write(`${line}\n`);
  if (next.length > 0) out.write('\nNext:\n');
  for (const line of next) out.write(`  ${line}\n`);
}

/** Prints all of a report. */
export function printReport(report: TufReport, io: CommandIo): void {
  const { roles, channels, staged } = report;
  const rows = roles.map(({ role, version, expires, threshold, keyIDs }) => [
    ...[role, String(version), expires, `${threshold} of ${keyIDs.length}`],
    keyIDs.map((id) => id.slice(0, 12)).join(' '),
  ]);
  if (rows.length > 0) {
    io.out.write(formatTable(['role', 'version', 'expires', 'signatures', 'keys'], rows));
  }
  if (channels.length > 0) {
    const lines = channels.map(({ path, role, digest, version }) => [
      ...[path, role, version ?? '', digest],
    ]);
    io.out.write(`\n${formatTable(['channel', 'role', 'version', 'manifest'], lines)}`);
  }
  for (const { role, version, complete } of staged) {
    io.out.write(`\nstaged: ${role} ${version}, ${complete ? 'signed' : 'not signed yet'}\n`);
  }
  printSteps(report, io);
}
