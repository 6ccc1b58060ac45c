import { type Digest, digestHex } from '../digest.ts';
import { toSnapgateError } from '../errors.ts';
import type { ContentReader, StoredManifest } from '../oci/content.ts';
import { type Descriptor, parseManifest } from '../oci/manifest.ts';
import {
  DELTA_ARTIFACT,
  isIndexType,
  SIGSTORE_BUNDLE,
  SIMPLE_SIGNING,
} from '../oci/media-types.ts';
import { readSmallBlob } from '../oci/read-small-blob.ts';
import { MAX_BUNDLE_BYTES } from './bundle.ts';
import { MAX_PAYLOAD_BYTES, SIGNATURE_ANNOTATION } from './simple-signing.ts';

/** Most referrers of one subject that are looked at; what comes after them is not seen. */
export const MAX_REFERRERS = 256;
/** Most layers of one signature manifest that are looked at. */
export const MAX_SIGNATURE_LAYERS = 64;
/** Largest signature manifest fetched, in bytes. One of 64 layers by certificate is about 1 MiB. */
const MAX_SIGNATURE_MANIFEST = 1024 * 1024;

/** A manifest that holds signatures, with its exact bytes and those of the blobs that were read. */
export type SignatureManifest = {
  readonly stored: StoredManifest;
  /** The tag that it stands under; a bundle stands under none. */
  readonly tag: string | undefined;
  readonly blobs: { readonly descriptor: Descriptor; readonly bytes: Uint8Array }[];
};

/** A signature as it was found; nothing says yet that it is good. */
export type FoundSignature = {
  readonly form: 'bundle' | 'legacy';
  readonly manifest: SignatureManifest;
  /** The bundle, or the legacy payload. */
  readonly bytes: Uint8Array;
  /** What the legacy payload is annotated with; empty for a bundle. */
  readonly signature: string;
};

/** Something that should have been a signature and could not be read. */
export type UnreadableSignature = {
  readonly form: 'bundle' | 'legacy';
  readonly manifest: Digest | undefined;
  readonly reason: string;
};

/** The tag of the manifest that holds the legacy signatures of `subject`. */
export function legacyTag(subject: Digest): string {
  return `sha256-${digestHex(subject)}.sig`;
}

type Form = FoundSignature['form'];
type Holder = { readonly manifest: SignatureManifest; readonly layers: readonly Descriptor[] };

/**
 * Finds the signatures of a manifest, bundles first, then legacy ones; stop reading and nothing more
 * is fetched. What is broken or beyond a limit is yielded as unreadable, so that it cannot hide a
 * good signature beside it. Throws what keeps a registry from answering at all.
 */
export async function* findSignatures(
  reader: ContentReader,
  subject: Digest,
  signal?: AbortSignal,
): AsyncGenerator<FoundSignature | UnreadableSignature> {
  const listed = await attempt(() => reader.listReferrers(subject, signal));
  if (!Array.isArray(listed)) yield { form: 'bundle', manifest: undefined, ...listed };
  for (const { digest } of Array.isArray(listed) ? likelyFirst(listed) : []) {
    const holder = await attempt(() => readReferrer(reader, subject, digest, signal));
    yield* readHolder('bundle', holder, digest, reader, signal);
  }
  const legacy = await attempt(() => readLegacy(reader, subject, signal));
  yield* readHolder('legacy', legacy, undefined, reader, signal);
}

/** An index's artifact types may be wrong, so they decide the order only: deltas come last. */
function likelyFirst(entries: readonly Descriptor[]): Descriptor[] {
  const isDelta = (entry: Descriptor) => entry.artifactType === DELTA_ARTIFACT;
  const manifests = entries.filter(
    ({ mediaType, size }) => !isIndexType(mediaType) && size <= MAX_SIGNATURE_MANIFEST,
  );
  return [
    ...manifests.filter((entry) => !isDelta(entry)),
    ...manifests.filter((entry) => isDelta(entry)),
  ].slice(0, MAX_REFERRERS);
}

async function readReferrer(
  reader: ContentReader,
  subject: Digest,
  digest: Digest,
  signal: AbortSignal | undefined,
): Promise<Holder | undefined> {
  const stored = await reader.getManifest(digest, signal);
  if (isIndexType(stored.mediaType)) return undefined;
  const parsed = parseManifest(stored.bytes);
  // A listed referrer may be about something else: only its own subject counts.
  if (parsed.subject?.digest !== subject) return undefined;
  const layers = parsed.layers.filter((layer) => layer.mediaType === SIGSTORE_BUNDLE);
  return { manifest: { stored, tag: undefined, blobs: [] }, layers };
}

async function readLegacy(
  reader: ContentReader,
  subject: Digest,
  signal: AbortSignal | undefined,
): Promise<Holder | undefined> {
  const tag = legacyTag(subject);
  let stored: StoredManifest;
  try {
    stored = await reader.getManifest(tag, signal);
  } catch (thrown) {
    if (toSnapgateError(thrown).code === 'MANIFEST_UNKNOWN') return undefined;
    throw thrown;
  }
  if (isIndexType(stored.mediaType)) return undefined;
  const { layers } = parseManifest(stored.bytes);
  return {
    manifest: { stored, tag, blobs: [] },
    layers: layers.filter((layer) => layer.mediaType === SIMPLE_SIGNING),
  };
}

async function* readHolder(
  form: Form,
  holder: Holder | Unreadable | undefined,
  digest: Digest | undefined,
  reader: ContentReader,
  signal: AbortSignal | undefined,
): AsyncGenerator<FoundSignature | UnreadableSignature> {
  if (holder === undefined) return;
  if ('reason' in holder) {
    yield { form, manifest: digest, reason: holder.reason };
    return;
  }
  const { manifest } = holder;
  const limit = form === 'bundle' ? MAX_BUNDLE_BYTES : MAX_PAYLOAD_BYTES;
  for (const descriptor of holder.layers.slice(0, MAX_SIGNATURE_LAYERS)) {
    const bytes = await attempt(() => readSmallBlob(reader, descriptor, limit, signal));
    if (!(bytes instanceof Uint8Array)) {
      yield { form, manifest: manifest.stored.digest, reason: bytes.reason };
      continue;
    }
    manifest.blobs.push({ descriptor, bytes });
    const signature = descriptor.annotations?.[SIGNATURE_ANNOTATION] ?? '';
    yield { form, manifest, bytes, signature };
  }
}

type Unreadable = Pick<UnreadableSignature, 'reason'>;

/** Content that is missing or broken (exit status 4, or unknown) is the finding, not a failure. */
async function attempt<Result>(read: () => Promise<Result>): Promise<Result | Unreadable> {
  try {
    return await read();
  } catch (thrown) {
    const error = toSnapgateError(thrown);
    if (error.exitStatus !== 4 && error.httpStatus !== 404) throw thrown;
    return { reason: error.message };
  }
}
