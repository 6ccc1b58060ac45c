import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { collectMetadata } from '../../../gateway/tuf/collect.ts';
import { delegate } from '../../../gateway/tuf/edit.ts';
import { parseMetadata, parseTrustAnchor, signersOf } from '../../../shared/tuf/metadata.ts';
import { roleOfFile, TOP_ROLES, type TopRole } from '../../../shared/tuf/roles.ts';
import { statementOf } from '../../../shared/tuf/statement.ts';
import { storedManifest } from '../../support/tiny-image.ts';
import { newSigner, roleOf, TestTuf } from '../../support/tuf.ts';
import type { Target } from '../target.ts';

const WORDS = [
  ...['{', '}', '[', ']', ',', ':', '"', 'null', 'true', '1e999', '-1', '9007199254740993'],
  ...['"__proto__":', '\\u0000', '"_type":', '"keys":{', '"roles":{', '"threshold":0', '"meta":{'],
  ...['"delegations":{', '"terminating":', '"paths":["*"]', '"custom":{', '"hashes":{', '[[[['],
];

/** Metadata of a role as people make it, a delegation and statements included. */
async function samplesOf(role: TopRole): Promise<Uint8Array[]> {
  const dir = await mkdtemp(join(tmpdir(), 'snapgate-fuzz-tuf-'));
  try {
    const tuf = await TestTuf.create(join(dir, 'tuf'));
    const team = newSigner();
    const asked = { ...roleOf([team], 1), pattern: 'apps/*' };
    await delegate(tuf.folder, await tuf.state(), 'apps', asked, { now: tuf.now });
    await tuf.publish([team]);
    await tuf.stateChannel('os/image/stable', storedManifest({ a: 1 }), { version: '1' });
    const files = await collectMetadata((name) => tuf.folder.metadata(name), 'test');
    return [...files].filter(([name]) => roleOfFile(name) === role).map(([, bytes]) => bytes);
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Reads all that a machine reads of a role before it has judged who signed it. */
function read(role: TopRole, input: Buffer): unknown {
  if (role === 'root') return parseTrustAnchor(input, 'test').signed.version;
  if (role !== 'targets') return parseMetadata(role, input, 'test').signed.version;
  const metadata = parseMetadata(role, input, 'test');
  const { targets, delegations } = metadata.signed;
  for (const child of Object.values(delegations?.roles ?? {})) {
    signersOf(metadata, delegations?.keys ?? {}, child);
  }
  return Object.values(targets).map(statementOf).length;
}

export const CHANNEL_TARGETS: readonly Target[] = TOP_ROLES.map((role) => ({
  name: `tuf-${role}`,
  samples: () => samplesOf(role),
  words: WORDS,
  read: (input) => read(role, input),
}));
