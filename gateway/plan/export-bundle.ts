import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { ContentReader, StoredManifest } from '../../shared/oci/content.ts';
import type { Platform } from '../../shared/oci/manifest.ts';
import { isIndexType } from '../../shared/oci/media-types.ts';
import { MAX_REFERRERS } from '../../shared/signing/find-signatures.ts';
import { type MetadataFiles, putMetadata, TUF_TAG } from '../../shared/tuf/artifact.ts';
import { parseMetadata } from '../../shared/tuf/metadata.ts';
import { roleOfFile } from '../../shared/tuf/roles.ts';
import { statementOf } from '../../shared/tuf/statement.ts';
import { type Copying, copyBlobs, copyManifest, copySignatures } from '../layout/copy-content.ts';
import type { DeltaFacts } from '../store/facts.ts';
import { deltaFacts } from './delta-facts.ts';
import { readImage } from './read-image.ts';
import { isForSome } from './readable-formats.ts';

/** What goes into a bundle. */
export type BundleOptions = {
  readonly target: ContentReader;
  /** What of it is meant. */
  readonly tagOrDigest: string;
  /** The tag that the target has in the bundle. */
  readonly tag: string;
  readonly platform: Platform;
  /** Digest of the config of the image that the machines have; without it all layers go in. */
  readonly sourceConfig: Digest | undefined;
  /** What signed statements say of channels, for machines whose policy asks for it. */
  readonly metadata?: MetadataFiles | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** What went into a bundle. */
export type BundleContent = {
  /** Digest of the image's manifest. */
  readonly target: Digest;
  readonly method: 'delta' | 'full';
  /** Digest of the delta's manifest. */
  readonly artifact?: Digest;
  /** Manifests that hold signatures. */
  readonly signatures: number;
};

/**
 * Writes all that a machine without a line needs for an update: the target's manifest (with the index
 * that names it), config and signatures, and either a published delta with its signatures or all
 * layers. Everything is copied byte for byte and nothing is judged: that is the machine's part.
 * Throws SIGNATURE_MISSING, METADATA_MISMATCH, MANIFEST_UNKNOWN and what reading and writing throw.
 */
export async function exportBundle(
  to: Copying['to'],
  options: BundleOptions,
): Promise<BundleContent> {
  const { target: from, tagOrDigest, tag, platform, sourceConfig, metadata, signal } = options;
  if (metadata !== undefined) await putMetadata(to, metadata, TUF_TAG);
  const copying = { from, to, signal };
  const named = await from.getManifest(tagOrDigest, signal);
  if (metadata !== undefined) checkStated(metadata, named.digest, from.name);
  const { stored, manifest } = await readImage(from, named.digest, platform, signal);
  let signatures = await copySignatures(copying, stored.digest);
  if (isIndexType(named.mediaType)) signatures += await copySignatures(copying, named.digest);
  if (signatures === 0) throw notSigned('the image', `${from.name}@${named.digest}`);
  const content = { target: stored.digest };
  await copyBlobs(copying, [manifest.config]);
  if (sourceConfig === undefined) {
    await copyBlobs(copying, manifest.layers);
    await putTarget(to, named, stored, tag);
    return { ...content, method: 'full', signatures };
  }
  const deltas = await findDeltas(from, stored.digest, sourceConfig, signal);
  for (const { artifact } of deltas) {
    await copyManifest(copying, await from.getManifest(artifact, signal));
    const ofDelta = await copySignatures(copying, artifact);
    if (ofDelta === 0) throw notSigned('the delta', `${from.name}@${artifact}`);
    signatures += ofDelta;
  }
  await putTarget(to, named, stored, tag);
  const [{ artifact }] = deltas;
  return { ...content, method: 'delta', artifact, signatures };
}

/** No machine would take an image that its channel does not name. Throws METADATA_MISMATCH. */
function checkStated(metadata: MetadataFiles, digest: Digest, where: string): void {
  for (const [name, bytes] of metadata) {
    const role = roleOfFile(name) ?? '';
    if (['root', 'snapshot', 'timestamp'].includes(role)) continue;
    const { targets } = parseMetadata('targets', bytes, name).signed;
    if (Object.values(targets).some((target) => statementOf(target).digest === digest)) return;
  }
  throw new SnapgateError('METADATA_MISMATCH', 'no channel names this image', {
    where: `${where}@${digest}`,
    hint: 'State it with snapgate tuf add and publish that, or export without --tuf.',
  });
}

/** The image first: an index that comes after what it names stands for it alone. */
async function putTarget(
  to: Copying['to'],
  named: StoredManifest,
  stored: StoredManifest,
  tag: string,
): Promise<void> {
  if (named.digest !== stored.digest) await to.putManifest(stored);
  await to.putManifest(named, tag);
}

/**
 * The smallest delta beside the target that starts from the source; and where that is for one class of
 * machines, the smallest that is for all, so that the bundle serves others too. Throws
 * MANIFEST_UNKNOWN.
 */
async function findDeltas(
  reader: ContentReader,
  target: Digest,
  sourceConfig: Digest,
  signal: AbortSignal | undefined,
): Promise<[DeltaFacts, ...DeltaFacts[]]> {
  const found: DeltaFacts[] = [];
  const listed = await reader.listReferrers(target, signal);
  // The types in a list that others wrote may be wrong: each manifest says itself what it is.
  for (const { digest } of listed.slice(0, MAX_REFERRERS)) {
    const facts = deltaFacts(await reader.getManifest(digest, signal));
    if (facts?.target === target && facts.sourceConfig === sourceConfig) found.push(facts);
  }
  const [smallest] = found.sort((a, b) => a.bytes - b.bytes);
  const isForAll = ({ format }: DeltaFacts) => format === undefined || !isForSome(format);
  const plain = found.find(isForAll);
  if (smallest !== undefined) {
    return plain === undefined || plain === smallest ? [smallest] : [smallest, plain];
  }
  throw new SnapgateError('MANIFEST_UNKNOWN', 'no delta between these images is published', {
    where: `${reader.name}@${target}`,
    hint: 'Have the gateway make it, or run snapgate delta create --push and snapgate sign.',
  });
}

function notSigned(what: string, where: string): SnapgateError {
  return new SnapgateError('SIGNATURE_MISSING', `${what} is not signed: no machine would take it`, {
    where,
    hint: 'Sign it with snapgate sign, or read it through a gateway that signs.',
  });
}
