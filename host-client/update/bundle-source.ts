import { type FileHandle, open } from 'node:fs/promises';
import { SnapgateError } from '../../shared/errors.ts';
import { archiveFiles } from '../../shared/oci/layout/archive-files.ts';
import { ATTACHED_TAG } from '../../shared/oci/layout/layout-index.ts';
import { LayoutReader } from '../../shared/oci/layout/layout-reader.ts';
import { TUF_TAG } from '../../shared/tuf/artifact.ts';
import { bundledMetadata } from '../channel/metadata-source.ts';
import { channelOf, followedBy } from './follow-channel.ts';
import type { Machine, UpdateSource } from './machine.ts';
import { readPolicy, trustBy } from './trust.ts';

/**
 * Lets `action` work with a file that `snapgate bundle export` wrote as with any other source of
 * updates. It is read in place and never written to, so it may be on a medium that is read-only.
 * Throws USAGE for what is no such file, TAR_INVALID, CONFIG_INVALID, and what `action` throws.
 */
export async function withBundle<T>(
  path: string,
  machine: Pick<Machine, 'config' | 'channels'>,
  action: (connect: () => Promise<UpdateSource>) => Promise<T>,
): Promise<T> {
  const file = await openFile(path);
  try {
    return await action(async () => {
      const { config, channels } = machine;
      const policy = await readPolicy(config.policy);
      const { size } = await file.stat();
      const reader = new LayoutReader(await archiveFiles(file, size, path));
      const rule = channelOf(policy, config.name);
      if (rule !== undefined) {
        const following = { config, policy, rule, channels };
        const followed = await followedBy(following, reader, bundledMetadata(reader));
        return { reader, api: undefined, ...followed, tagDigest: undefined };
      }
      const trust = trustBy(policy, config.name, reader);
      const wanted = await wantedTag(reader, config.tag);
      return { reader, trust, api: undefined, tagDigest: undefined, wanted };
    });
  } finally {
    await file.close();
  }
}

/** The image that a bundle is about: that of the machine's tag, or the only one. */
async function wantedTag(reader: LayoutReader, own: string): Promise<string> {
  const tags = (await reader.listTags()).filter(
    (tag) => !ATTACHED_TAG.test(tag) && tag !== TUF_TAG,
  );
  const [only] = tags;
  if (tags.includes(own)) return own;
  if (only !== undefined && tags.length === 1) return only;
  const what = only === undefined ? 'the bundle names no image' : `it has none tagged ${own}`;
  throw new SnapgateError('MANIFEST_UNKNOWN', what, {
    where: reader.name,
    hint: 'Make it with snapgate bundle export.',
  });
}

async function openFile(path: string): Promise<FileHandle> {
  try {
    const file = await open(path, 'r');
    if ((await file.stat()).isFile()) return file;
    await file.close();
  } catch (cause) {
    throw new SnapgateError('USAGE', 'the bundle cannot be read', { where: path, cause });
  }
  throw new SnapgateError('USAGE', 'a bundle is a file', { where: path });
}
