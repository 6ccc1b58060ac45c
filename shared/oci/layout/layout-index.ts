import { type Digest, isDigest } from '../../digest.ts';
import { SnapgateError } from '../../errors.ts';
import type { Descriptor, Index } from '../manifest.ts';
import { OCI_INDEX } from '../media-types.ts';

/** Annotation that names an entry of index.json (OCI image specification, "Annotations"). */
const REF_NAME = 'org.opencontainers.image.ref.name';
/** Tags that stand for referrers or cosign's signatures of another manifest, not for an image. */
export const ATTACHED_TAG = /^sha256-[0-9a-f]{64}(\..+)?$/;

/** The index.json of an empty layout. */
export const EMPTY_INDEX: Index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] };

/** The tag of an entry, if it has one. */
export function entryTag(entry: Descriptor): string | undefined {
  return entry.annotations?.[REF_NAME];
}

/** The entry that a tag or digest names. */
export function findEntry(index: Index, tagOrDigest: string): Descriptor | undefined {
  return index.manifests.find((entry) =>
    isDigest(tagOrDigest) ? entry.digest === tagOrDigest : entryTag(entry) === tagOrDigest,
  );
}

/**
 * The index with a manifest entered. As in other tools, a tag moves from its old entry, and without
 * a tag the manifest is entered only when it is not there. `children` (of a new index) lose their
 * own nameless entries, so that the index alone stands for the image.
 */
export function withEntry(
  index: Index,
  descriptor: Descriptor,
  tag: string | undefined,
  children: readonly Digest[],
): Index {
  const known = index.manifests.some((entry) => entry.digest === descriptor.digest);
  if (tag === undefined && known) return index;
  const kept = index.manifests.filter((entry) => {
    const name = entryTag(entry);
    if (name !== undefined) return name !== tag;
    return entry.digest !== descriptor.digest && !children.includes(entry.digest);
  });
  const annotations = tag === undefined ? undefined : { [REF_NAME]: tag };
  const entry = { ...descriptor, ...(annotations === undefined ? {} : { annotations }) };
  return { ...index, manifests: [...kept, entry] };
}

/**
 * The entry meant when no tag is given: the only one that is not attached to another entry
 * (`subjectOf` tells what an entry refers to). Throws MANIFEST_UNKNOWN, REFERENCE_INVALID.
 */
export function defaultEntry(
  index: Index,
  subjectOf: ReadonlyMap<Digest, Digest | undefined>,
  where: string,
): Descriptor {
  const present = new Set(index.manifests.map((entry) => entry.digest));
  const roots = index.manifests.filter((entry) => {
    const subject = subjectOf.get(entry.digest);
    return !ATTACHED_TAG.test(entryTag(entry) ?? '') && !(subject && present.has(subject));
  });
  const digests = new Set(roots.map((entry) => entry.digest));
  const [only] = roots;
  if (only !== undefined && digests.size === 1) return only;
  if (only === undefined) {
    throw new SnapgateError('MANIFEST_UNKNOWN', 'the layout holds no image', { where });
  }
  const names = roots.map((entry) => entryTag(entry)).filter((name) => name !== undefined);
  throw new SnapgateError('REFERENCE_INVALID', 'the layout holds several images', {
    where,
    hint: `Name one by its tag: ${names.join(', ') || 'none has a tag'}.`,
  });
}
