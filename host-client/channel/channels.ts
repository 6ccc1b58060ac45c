import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ChannelRule } from '../../shared/policy/policy.ts';
import { compareVersions, parseVersion } from '../../shared/policy/version.ts';
import { issuedAt, topRole } from '../../shared/tuf/metadata.ts';
import type { Statement } from '../../shared/tuf/statement.ts';
import { type FoundStatement, refuseAged } from '../../shared/tuf/view.ts';
import { FileLock } from '../system/file-lock.ts';
import { readRecord, writeRecord } from '../system/records.ts';
import { VERSION } from '../version.ts';
import { type KnownChannel, knownChannel } from './known-channel.ts';
import type { MetadataSource } from './metadata-source.ts';
import { readView, refreshChannel } from './refresh.ts';
import { TrustedMetadata } from './trusted-metadata.ts';

/** Most statements that are remembered, newest first: one for each deployment that there may be. */
const MAX_REMEMBERED = 64;

const LOCK_MS = 30_000;

const statementSchema = v.object({
  /** The policy's name for the root. */
  root: v.string(),
  role: v.string(),
  keyIDs: v.array(v.string()),
  version: v.number(),
});
type StatementRecord = v.InferOutput<typeof statementSchema>;
const recordsSchema = v.object({
  /** Statements that images came by, by digest of the image's manifest. */
  images: v.array(v.object({ manifest: v.string(), ...statementSchema.entries })),
  /** The oldest statement of a role that is still taken. */
  floors: v.array(statementSchema),
  /** The latest time that was proved under a root, and by which keys. */
  clocks: v.array(
    v.object({
      root: v.string(),
      keyIDs: v.array(v.string()),
      time: v.pipe(v.string(), v.isoTimestamp()),
    }),
  ),
});
type Records = v.InferOutput<typeof recordsSchema>;
const NO_RECORDS: Records = { images: [], floors: [], clocks: [] };

/** What a channel means for this machine, from a statement that it trusts. */
export type FollowedChannel = Omit<FoundStatement, 'statement'> & {
  readonly statement: Statement;
  /** The policy's name for the root. */
  readonly root: string;
  /** When that was confirmed; undefined where metadata does not say. */
  readonly confirmed: Date | undefined;
  /** The time it is at least. */
  readonly now: Date;
};

/** What is asked about a channel. */
export type ChannelQuestion = {
  readonly rule: ChannelRule;
  /** `<repository>/<tag>`. */
  readonly path: string;
  readonly source: MetadataSource;
  /** Longest time for everything, in milliseconds. */
  readonly timeoutMs: number;
  /** Change nothing that is kept. */
  readonly dryRun?: boolean;
  readonly signal?: AbortSignal | undefined;
};

/**
 * What the machine knows of channels, in a folder that belongs to no deployment: trusted metadata,
 * which statement each image came by, how old a statement may be, and what time was proved.
 */
export class Channels {
  readonly #dir: string;
  readonly #clock: () => Date;

  constructor(stateDir: string, clock: () => Date = () => new Date()) {
    this.#dir = join(stateDir, 'tuf');
    this.#clock = clock;
  }

  /**
   * Learns what a channel means. Throws as `refreshChannel`, METADATA_FROZEN, METADATA_ROLLBACK below
   * the floor, and CLIENT_TOO_OLD.
   */
  async follow(question: ChannelQuestion): Promise<FollowedChannel> {
    const { rule, path, source } = question;
    const { root, anchor, maximumAgeSeconds } = rule;
    const records = await this.#read();
    const trusted = new TrustedMetadata(join(this.#dir, 'roots', root));
    const clock = records.clocks.find((one) => one.root === root);
    const { found, view, now } = await refreshChannel(trusted, {
      ...{ ...question, anchor },
      now: (signed) => {
        // A time that was proved by keys that were revoked since counts no more.
        const counts = sameKeys(clock?.keyIDs, topRole(signed, 'timestamp').keyIDs);
        const proved = counts ? Date.parse(clock?.time ?? '') : 0;
        return new Date(Math.max(this.#clock().getTime(), proved));
      },
    });
    const confirmed = issuedAt(view.timestamp.signed);
    if (question.dryRun !== true) {
      const { keyIDs } = topRole(view.root.signed, 'timestamp');
      await this.#keepTime(root, [...keyIDs], confirmed);
    }
    const where = `${source.name}: ${path}`;
    if (maximumAgeSeconds !== undefined) refuseAged(view, maximumAgeSeconds, now, where);
    refuseBelowFloor(records.floors, root, found, where);
    refuseTooNew(found.statement, where);
    return { ...found, root, confirmed, now };
  }

  /**
   * What the metadata that was accepted last says of a channel. Asks nobody, judges nothing, and
   * changes nothing. Throws STORAGE_INVALID.
   */
  async known({ root, anchor }: ChannelRule, path: string): Promise<KnownChannel> {
    const { floors } = await this.#read();
    const trusted = new TrustedMetadata(join(this.#dir, 'roots', root));
    return trusted.rehearse(anchor, async ({ dir }) => {
      // None yet, or some that is damaged: the next refresh begins anew.
      const view = await readView(dir).catch(() => undefined);
      return knownChannel(path, root, view, (found) => floorFor(floors, root, found)?.version);
    });
  }

  /** Notes by which statement an image came, so that the floor can follow once it has proved good. */
  async remember(manifest: Digest, followed: FollowedChannel | undefined): Promise<void> {
    if (followed === undefined) return;
    const { root, role, keyIDs, version } = followed;
    const record = { manifest, root, role, keyIDs: [...keyIDs], version };
    await this.#change((records) => {
      const others = records.images.filter((one) => one.manifest !== manifest);
      return { ...records, images: [record, ...others].slice(0, MAX_REMEMBERED) };
    });
  }

  /**
   * Takes no older statement any more than the one that a healthy image came by. What the machine
   * goes back to by itself is asked for no statement.
   */
  async raiseFloor(manifest: Digest): Promise<void> {
    const { images, floors } = await this.#read();
    const came = images.find((one) => one.manifest === manifest);
    if (came === undefined) return;
    const { manifest: _, ...floor } = came;
    const known = floorFor(floors, floor.root, floor);
    if (known !== undefined && known.version >= floor.version) return;
    await this.#change((records) => ({
      ...records,
      floors: [floor, ...records.floors.filter((one) => !isFor(one, floor.root, floor.role))],
    }));
  }

  /** The oldest statements that are still taken. */
  async floors(): Promise<readonly StatementRecord[]> {
    return (await this.#read()).floors;
  }

  async #keepTime(root: string, keyIDs: string[], proved: Date | undefined): Promise<void> {
    if (proved === undefined) return;
    await this.#change((records) => {
      const known = records.clocks.find((one) => one.root === root);
      const isLater = sameKeys(known?.keyIDs, keyIDs) && Date.parse(known?.time ?? '') >= +proved;
      if (isLater) return records;
      const others = records.clocks.filter((one) => one !== known);
      return { ...records, clocks: [{ root, keyIDs, time: proved.toISOString() }, ...others] };
    });
  }

  /** Throws STORAGE_INVALID for a file that somebody else changed: a floor is not given up unasked. */
  async #read(): Promise<Records> {
    return (await readRecord(join(this.#dir, 'channels.json'), recordsSchema)) ?? NO_RECORDS;
  }

  async #change(change: (records: Records) => Records): Promise<void> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const path = join(this.#dir, 'channels.lock');
    const busy = () =>
      new SnapgateError('ALREADY_RUNNING', 'another snaphost writes down channels', {
        where: path,
      });
    using _lock = await FileLock.acquire(path, { timeoutMs: LOCK_MS, busy });
    const before = await this.#read();
    const after = change(before);
    if (after === before) return;
    await writeRecord(join(this.#dir, 'channels.json'), after);
  }
}

function isFor(one: StatementRecord, root: string, role: string): boolean {
  return one.root === root && one.role === role;
}

function sameKeys(a: readonly string[] | undefined, b: readonly string[]): boolean {
  return a !== undefined && JSON.stringify([...a].sort()) === JSON.stringify([...b].sort());
}

/** A role whose keys were changed since begins anew, so that a number that a thief wrote ends. */
function floorFor(
  floors: readonly StatementRecord[],
  root: string,
  { role, keyIDs }: Pick<FoundStatement, 'role' | 'keyIDs'>,
): StatementRecord | undefined {
  const floor = floors.find((one) => isFor(one, root, role));
  return sameKeys(floor?.keyIDs, keyIDs) ? floor : undefined;
}

function refuseBelowFloor(
  floors: readonly StatementRecord[],
  root: string,
  found: FoundStatement,
  where: string,
): void {
  const { role, version } = found;
  const floor = floorFor(floors, root, found);
  if (floor === undefined || version >= floor.version) return;
  const message = `${role} ${version} is older than ${floor.version}, by which this machine runs`;
  throw new SnapgateError('METADATA_ROLLBACK', message, {
    where,
    hint: 'To go back to an older image, state it anew with snapgate tuf add.',
  });
}

function refuseTooNew({ minimumClient }: Statement, where: string): void {
  const [asked, own] = [parseVersion(minimumClient ?? '0'), parseVersion(VERSION)];
  if (asked !== undefined && own !== undefined && compareVersions(own, asked) >= 0) return;
  throw new SnapgateError('CLIENT_TOO_OLD', `client ${minimumClient} or newer is asked for`, {
    where,
    hint: `This is ${VERSION}; update snaphost first.`,
  });
}
