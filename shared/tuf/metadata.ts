import { createHash } from 'node:crypto';
import { canonicalize } from '@tufjs/canonical-json';
import {
  Key,
  Metadata,
  type MetadataKind,
  type Root,
  type Snapshot,
  type Targets,
  type Timestamp,
} from '@tufjs/models';
import { SnapgateError } from '../errors.ts';
import type { PublicKey } from '../signing/public-key.ts';
import { printable } from '../signing/verdict.ts';
import { parseStrictJson } from '../strict-json.ts';
import { maxBytes, type TopRole } from './roles.ts';

/** What is signed, by the kind that it names; delegated roles are of the kind `targets`. */
export type SignedKinds = {
  readonly root: Root;
  readonly targets: Targets;
  readonly snapshot: Snapshot;
  readonly timestamp: Timestamp;
};
export type AnySigned = SignedKinds[TopRole];

/** Who may sign a role, and how many of them must. */
export type RoleKeys = {
  readonly keyIDs: readonly string[];
  readonly threshold: number;
};

/** Times as the specification writes them (TUF specification 1.0, section 4.2). */
const TIME = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/;
/** Field of our own in what is signed: when that was. Other readers pass over it. */
const ISSUED = 'x-snapgate-issued';

/**
 * Parses the metadata of a role, without judging its signatures. Throws METADATA_INVALID,
 * LIMIT_EXCEEDED.
 */
export function parseMetadata<Kind extends TopRole>(
  kind: Kind,
  bytes: Uint8Array,
  where: string,
): Metadata<SignedKinds[Kind]> {
  if (bytes.length > maxBytes(kind)) {
    throw new SnapgateError('LIMIT_EXCEEDED', `more than ${maxBytes(kind)} bytes of ${kind}`, {
      where,
    });
  }
  try {
    const json = parseStrictJson(bytes) as Parameters<typeof Metadata.fromJSON>[1];
    // What `fromJSON` gives is of the kind that it was asked for.
    const metadata = Metadata.fromJSON(kind as MetadataKind.Root, json) as unknown as Metadata<
      SignedKinds[Kind]
    >;
    const { version, expires } = metadata.signed;
    if (!Number.isSafeInteger(version) || version < 1) throw new Error('version is no number');
    if (!TIME.test(expires)) throw new Error('expires is no time');
    return metadata;
  } catch (cause) {
    throw invalid(kind, cause, where);
  }
}

/** The error for metadata that cannot be read. */
export function invalid(role: string, cause: unknown, where: string): SnapgateError {
  const why = printable(cause instanceof Error ? cause.message : String(cause), 200);
  return new SnapgateError('METADATA_INVALID', `${role}: ${why}`, { where, cause });
}

/** The error for a place that has none. */
export function metadataMissing(where: string): SnapgateError {
  return new SnapgateError('METADATA_MISSING', 'there is no channel metadata', {
    where,
    hint: 'See that the gateway has tuf.folder set, or that the bundle was exported with --tuf.',
  });
}

/** The bytes of a role's file. */
export function encodeMetadata(metadata: Metadata<AnySigned>): Buffer {
  return Buffer.from(JSON.stringify(metadata.toJSON()));
}

/** The bytes that signatures are over (TUF specification 1.0, section 4.2). */
export function signedBytes({ signed }: Pick<Metadata<AnySigned>, 'signed'>): Buffer {
  return Buffer.from(canonicalize(signed.toJSON()));
}

/** A key as metadata names it; its id follows from its content. */
export function tufKey({ pem }: Pick<PublicKey, 'pem'>): Key {
  const fields = { keytype: 'ecdsa', scheme: 'ecdsa-sha2-nistp256', keyval: { public: pem } };
  const keyID = createHash('sha256').update(canonicalize(fields)).digest('hex');
  const { keytype: keyType, scheme, keyval: keyVal } = fields;
  return new Key({ keyID, keyType, scheme, keyVal });
}

/** Ids of the keys of a role that have signed, each once; what does not verify counts for nothing. */
export function signersOf(
  metadata: Metadata<AnySigned>,
  keys: Readonly<Record<string, Key>>,
  role: RoleKeys,
): string[] {
  return [...new Set(role.keyIDs)].filter((id) => {
    try {
      const key = Object.hasOwn(keys, id) ? keys[id] : undefined;
      if (key === undefined) return false;
      key.verifySignature(metadata);
      return true;
    } catch {
      return false;
    }
  });
}

/** Whether as many have signed as must. */
export function isSigned(
  metadata: Metadata<AnySigned>,
  keys: Readonly<Record<string, Key>>,
  role: RoleKeys,
): boolean {
  return signersOf(metadata, keys, role).length >= role.threshold;
}

/** The keys of a top role in a root. */
export function topRole(root: Root, role: TopRole): RoleKeys {
  return root.roles[role] ?? { keyIDs: [], threshold: Number.POSITIVE_INFINITY };
}

/**
 * Parses a root that trust starts from: well-formed, and signed by its own keys. That it is expired
 * does not matter, as newer ones follow it. Throws METADATA_INVALID, METADATA_UNSIGNED.
 */
export function parseTrustAnchor(bytes: Uint8Array, where: string): Metadata<Root> {
  const root = parseMetadata('root', bytes, where);
  const { keys } = root.signed;
  if (isSigned(root, keys, topRole(root.signed, 'root'))) return root;
  throw new SnapgateError('METADATA_UNSIGNED', 'the root is not signed by enough of its keys', {
    where,
    hint: 'Take a root.json that snapgate tuf publish wrote.',
  });
}

/** The time `seconds` after a time, as metadata writes it. */
export function timeAfter(now: Date, seconds: number): string {
  const ms = Math.floor(now.getTime() / 1000 + seconds) * 1000;
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

/** When a role was signed, where it says so; the signature covers it. */
export function issuedAt(signed: AnySigned): Date | undefined {
  const text = signed.unrecognizedFields[ISSUED];
  return typeof text === 'string' && TIME.test(text) ? new Date(text) : undefined;
}

/** The fields that say when a role was signed. */
export function issued(now: Date): Record<string, string> {
  return { [ISSUED]: timeAfter(now, 0) };
}

/**
 * The entity tag of a file of metadata, without quotes. It follows from the content alone, so a
 * client can ask whether what it holds is still served without having been told the tag.
 */
export function fileTag(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('base64url').slice(0, 22);
}
