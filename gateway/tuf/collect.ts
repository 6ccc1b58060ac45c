import type { MetadataFiles } from '../../shared/tuf/artifact.ts';
import { metadataMissing, parseMetadata } from '../../shared/tuf/metadata.ts';
import { roleFile } from '../../shared/tuf/roles.ts';
import type { TufFolder } from './folder.ts';

/** Most roots that are collected. */
const MAX_ROOTS = 256;

/** The newest of what people signed: every root, and each role that makes statements. */
export async function collectOffline(folder: TufFolder): Promise<MetadataFiles> {
  const files = new Map<string, Uint8Array>();
  const add = async (role: string, version: number | undefined) => {
    const name = roleFile(role, version ?? 0);
    const bytes = version === undefined ? undefined : await folder.metadata(name);
    if (bytes === undefined) throw metadataMissing(`${folder.dir}: ${role}`);
    files.set(name, bytes);
    return bytes;
  };
  for (const version of await folder.versions('root')) await add('root', version);
  const bytes = await add('targets', (await folder.versions('targets')).at(-1));
  const { delegations } = parseMetadata('targets', bytes, folder.dir).signed;
  for (const role of Object.keys(delegations?.roles ?? {})) {
    await add(role, (await folder.versions(role)).at(-1));
  }
  return files;
}

/**
 * All files that a client may need to find any channel: every root, and what the timestamp leads to.
 * `read` gives a published file. Nothing is judged: that is the machine's part. Throws
 * METADATA_MISSING, METADATA_INVALID.
 */
export async function collectMetadata(
  read: (name: string) => Promise<Uint8Array | undefined>,
  where: string,
): Promise<MetadataFiles> {
  const files = new Map<string, Uint8Array>();
  const take = async (name: string) => {
    const bytes = await read(name);
    if (bytes === undefined) throw metadataMissing(`${where}: ${name}`);
    files.set(name, bytes);
    return bytes;
  };
  await take(roleFile('root', 1));
  for (let version = 2; version <= MAX_ROOTS; version += 1) {
    const bytes = await read(roleFile('root', version));
    if (bytes === undefined) break;
    files.set(roleFile('root', version), bytes);
  }
  const timestamp = parseMetadata('timestamp', await take('timestamp.json'), where).signed;
  const name = roleFile('snapshot', timestamp.snapshotMeta.version);
  const { meta } = parseMetadata('snapshot', await take(name), where).signed;
  for (const [file, { version }] of Object.entries(meta)) {
    await take(roleFile(file.slice(0, -'.json'.length), version));
  }
  return files;
}
