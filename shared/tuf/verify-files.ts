import type { Key, Metadata, MetaFile, Root, Targets } from '@tufjs/models';
import { digestHex, sha256 } from '../digest.ts';
import { SnapgateError } from '../errors.ts';
import type { MetadataFiles } from './artifact.ts';
import {
  type AnySigned,
  isSigned,
  metadataMissing,
  parseMetadata,
  parseTrustAnchor,
  type RoleKeys,
  topRole,
} from './metadata.ts';
import { MAX_DELEGATIONS, roleFile } from './roles.ts';
import type { TrustedView } from './view.ts';

/**
 * Verifies files of metadata that are all at hand, from the root that trust begins with: every
 * signature, hash, length and version, but neither expiry nor what somebody has seen before. It is
 * for explaining; a machine refreshes what it trusts instead. Throws METADATA_MISSING,
 * METADATA_INVALID, METADATA_UNSIGNED, METADATA_MISMATCH.
 */
export function verifyFiles(anchor: Uint8Array, files: MetadataFiles, where: string): TrustedView {
  const root = followRoots(parseTrustAnchor(anchor, where), files, where);
  const { signed } = root;
  const check = (role: string, metadata: Metadata<AnySigned>, keys: Keys, demand: RoleKeys) =>
    requireSigned(role, metadata, keys, demand, where);

  const timestamp = parseMetadata('timestamp', take(files, 'timestamp.json', where), where);
  check('timestamp', timestamp, signed.keys, topRole(signed, 'timestamp'));
  const named = timestamp.signed.snapshotMeta;
  const snapshot = parseMetadata('snapshot', takeNamed(files, 'snapshot', named, where), where);
  check('snapshot', snapshot, signed.keys, topRole(signed, 'snapshot'));
  requireVersion('snapshot', snapshot.signed.version, named.version, where);

  const roles = new Map<string, Metadata<Targets>>();
  const visit = (role: string, keys: Keys, demand: RoleKeys) => {
    if (roles.has(role) || roles.size > MAX_DELEGATIONS) return;
    const meta = snapshot.signed.meta[`${role}.json`];
    if (meta === undefined) throw metadataMissing(`${where}: ${role}`);
    const metadata = parseMetadata('targets', takeNamed(files, role, meta, where), where);
    check(role, metadata, keys, demand);
    requireVersion(role, metadata.signed.version, meta.version, where);
    roles.set(role, metadata);
    const { delegations } = metadata.signed;
    for (const child of Object.values(delegations?.roles ?? {})) {
      visit(child.name, delegations?.keys ?? {}, child);
    }
  };
  visit('targets', signed.keys, topRole(signed, 'targets'));
  return { root, timestamp, snapshot, targets: (role) => roles.get(role) };
}

type Keys = Readonly<Record<string, Key>>;

/** Each root is signed by the keys of the one before and by its own. */
function followRoots(anchor: Metadata<Root>, files: MetadataFiles, where: string): Metadata<Root> {
  let root = anchor;
  for (;;) {
    const bytes = files.get(roleFile('root', root.signed.version + 1));
    if (bytes === undefined) return root;
    const next = parseMetadata('root', bytes, where);
    for (const { signed } of [root, next]) {
      requireSigned('root', next, signed.keys, topRole(signed, 'root'), where);
    }
    requireVersion('root', next.signed.version, root.signed.version + 1, where);
    root = next;
  }
}

function take(files: MetadataFiles, name: string, where: string): Uint8Array {
  const bytes = files.get(name);
  if (bytes === undefined) throw metadataMissing(`${where}: ${name}`);
  return bytes;
}

function takeNamed(files: MetadataFiles, role: string, meta: MetaFile, where: string): Uint8Array {
  const bytes = take(files, roleFile(role, meta.version), where);
  const isLength = meta.length === undefined || meta.length === bytes.length;
  const hash = meta.hashes?.sha256;
  if (isLength && (hash === undefined || hash === digestHex(sha256(bytes)))) return bytes;
  throw new SnapgateError('METADATA_MISMATCH', `${role} is another file than the one named`, {
    where,
  });
}

function requireVersion(role: string, found: number, named: number, where: string): void {
  if (found === named) return;
  const message = `${role} is of version ${found} and should be of ${named}`;
  throw new SnapgateError('METADATA_MISMATCH', message, { where });
}

function requireSigned(
  role: string,
  metadata: Metadata<AnySigned>,
  keys: Keys,
  demand: RoleKeys,
  where: string,
): void {
  if (isSigned(metadata, keys, demand)) return;
  throw new SnapgateError('METADATA_UNSIGNED', `${role} is not signed by enough keys`, { where });
}
