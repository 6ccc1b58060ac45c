import { Metadata, MetaFile, Snapshot, type Targets, Timestamp } from '@tufjs/models';
import { digestHex, sha256 } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import {
  encodeMetadata,
  isSigned,
  issued,
  issuedAt,
  timeAfter,
  topRole,
  tufKey,
} from '../../shared/tuf/metadata.ts';
import type { Signer } from '../signing/signer.ts';
import type { TufFolder } from './folder.ts';
import { addSignature } from './sign.ts';
import { delegatedNames, demandsOf, isSignedFor, readState, type TufState } from './state.ts';

/** Who signs what changes by itself, and for how long each signature holds, in seconds. */
export type OnlineSigning = {
  readonly snapshot: Signer;
  readonly timestamp: Signer;
  readonly snapshotSeconds: number;
  readonly timestampSeconds: number;
};

/** What was signed; undefined where what there was still holds. */
export type OnlineResult = {
  readonly snapshot: number | undefined;
  readonly timestamp: number | undefined;
};

/**
 * Signs a new snapshot when something was published, and a new timestamp when there is a snapshot or
 * half of its time is over; a snapshot is renewed in the same way. Throws METADATA_MISSING,
 * METADATA_UNSIGNED for what was published without enough signatures, KEY_INVALID for a key that the
 * root does not name.
 */
export async function signOnline(
  folder: TufFolder,
  signing: OnlineSigning,
  now: Date,
): Promise<OnlineResult> {
  const state = { ...(await readState(folder)), staged: new Map() };
  checkKeys(state, signing);
  const meta = await snapshotMeta(folder, state);
  let { snapshot } = state;
  let snapshotVersion: number | undefined;
  if (snapshot === undefined || !holds(state, 'snapshot', now) || !isSame(snapshot, meta)) {
    snapshotVersion = ((await folder.versions('snapshot')).at(-1) ?? 0) + 1;
    snapshot = new Metadata(
      new Snapshot({
        ...{ version: snapshotVersion, specVersion: '1.0.31', meta },
        expires: timeAfter(now, signing.snapshotSeconds),
        unrecognizedFields: issued(now),
      }),
    );
    await addSignature(snapshot, signing.snapshot);
    await folder.publish('snapshot', snapshotVersion, encodeMetadata(snapshot));
  }
  const named = state.timestamp?.signed.snapshotMeta.version;
  if (named === snapshot.signed.version && holds(state, 'timestamp', now)) {
    return { snapshot: snapshotVersion, timestamp: undefined };
  }
  const timestamp = await signTimestamp(folder, state, snapshot, signing, now);
  return { snapshot: snapshotVersion, timestamp };
}

async function signTimestamp(
  folder: TufFolder,
  state: TufState,
  snapshot: Metadata<Snapshot>,
  signing: OnlineSigning,
  now: Date,
): Promise<number> {
  const version = (state.timestamp?.signed.version ?? 0) + 1;
  const bytes = encodeMetadata(snapshot);
  const metadata = new Metadata(
    new Timestamp({
      ...{ version, specVersion: '1.0.31' },
      snapshotMeta: metaFile(snapshot.signed.version, bytes),
      expires: timeAfter(now, signing.timestampSeconds),
      unrecognizedFields: issued(now),
    }),
  );
  await addSignature(metadata, signing.timestamp);
  await folder.publish('timestamp', version, encodeMetadata(metadata));
  return version;
}

/** Files that the snapshot names. One that it named before is never left out: clients refuse that. */
async function snapshotMeta(folder: TufFolder, state: TufState): Promise<Record<string, MetaFile>> {
  const targets = state.targets.get('targets');
  const meta = { ...state.snapshot?.signed.meta };
  for (const role of ['targets', ...delegatedNames(targets)]) {
    const metadata = state.targets.get(role);
    const bytes = await folder.latest(role);
    if (metadata === undefined || bytes === undefined) {
      throw new SnapgateError('METADATA_MISSING', `${role} is not published`, {
        where: folder.dir,
        hint: 'Sign what is staged, then run snapgate tuf publish.',
      });
    }
    checkSigned(state, role, metadata);
    meta[`${role}.json`] = metaFile(metadata.signed.version, bytes);
  }
  return meta;
}

function metaFile(version: number, bytes: Buffer): MetaFile {
  return new MetaFile({ version, length: bytes.length, hashes: { sha256: hashOf(bytes) } });
}

function hashOf(bytes: Buffer): string {
  return digestHex(sha256(bytes));
}

function checkSigned(state: TufState, role: string, metadata: Metadata<Targets>): void {
  if (isSignedFor(metadata, demandsOf(state, role))) return;
  throw new SnapgateError('METADATA_UNSIGNED', `${role} is not signed by enough keys`, {
    hint: `Run snapgate tuf rotate --role ${role}, and sign and publish it.`,
  });
}

function checkKeys({ root }: TufState, signing: OnlineSigning): void {
  if (root === undefined) {
    throw new SnapgateError('METADATA_MISSING', 'no root is published', {
      hint: 'Sign what is staged, then run snapgate tuf publish.',
    });
  }
  for (const role of ['snapshot', 'timestamp'] as const) {
    const { keyID } = tufKey(signing[role].publicKey);
    if (topRole(root.signed, role).keyIDs.includes(keyID)) continue;
    throw new SnapgateError('KEY_INVALID', `the root names another key for ${role}`, {
      where: `key ${keyID}`,
      hint: 'Give the key that the root names, or rotate to this one with snapgate tuf rotate.',
    });
  }
}

function isSame(snapshot: Metadata<Snapshot>, meta: Record<string, MetaFile>): boolean {
  const known = snapshot.signed.meta;
  const names = Object.keys(meta);
  return (
    names.length === Object.keys(known).length &&
    names.every((name) => known[name] !== undefined && meta[name]?.equals(known[name]) === true)
  );
}

/** Whether a role is signed by keys of today, and more than half of its time is left. */
function holds(state: TufState, role: 'snapshot' | 'timestamp', now: Date): boolean {
  const metadata = state[role];
  if (metadata === undefined || state.root === undefined) return false;
  const { signed } = state.root;
  if (!isSigned(metadata, signed.keys, topRole(signed, role))) return false;
  const end = Date.parse(metadata.signed.expires);
  const start = issuedAt(metadata.signed)?.getTime() ?? now.getTime();
  return now.getTime() < start + (end - start) / 2;
}
