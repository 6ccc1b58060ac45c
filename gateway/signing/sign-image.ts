import { SnapgateError } from '../../shared/errors.ts';
import type { ContentStore, StoredManifest } from '../../shared/oci/content.ts';
import { type Descriptor, parseIndex, platformName } from '../../shared/oci/manifest.ts';
import { isIndexType } from '../../shared/oci/media-types.ts';
import { type SignOptions, type SignResult, signManifest } from './sign-manifest.ts';

/** Most entries of an index that are signed. */
const MAX_PLATFORMS = 64;

/** A manifest that was signed, and for an index's entry its platform. */
export type SignedManifest = SignResult & { readonly platform?: string };

/**
 * The manifests that a signature of an image is made over: every platform's and then the index, or
 * the image's own. Verifiers differ in which of them they check. Attestations in an index are no
 * images and are left out. Throws LIMIT_EXCEEDED, MANIFEST_INVALID.
 */
export function manifestsToSign(stored: StoredManifest): Descriptor[] {
  const { mediaType, digest } = stored;
  const own = { mediaType, digest, size: stored.bytes.byteLength };
  if (!isIndexType(mediaType)) return [own];
  const entries = parseIndex(stored.bytes).manifests.filter(
    ({ platform }) => platformName(platform) !== 'unknown/unknown',
  );
  if (entries.length > MAX_PLATFORMS) {
    throw new SnapgateError('LIMIT_EXCEEDED', `the index has over ${MAX_PLATFORMS} entries`, {
      where: digest,
    });
  }
  if (entries.some((entry) => isIndexType(entry.mediaType))) {
    throw new SnapgateError('MANIFEST_INVALID', 'an index inside an index is not supported', {
      where: digest,
    });
  }
  return [...entries, own];
}

/** Signs an image: all that {@link manifestsToSign} names, one after the other. */
export async function signImage(
  store: ContentStore,
  stored: StoredManifest,
  options: SignOptions,
): Promise<SignedManifest[]> {
  const signed: SignedManifest[] = [];
  for (const descriptor of manifestsToSign(stored)) {
    const result = await signManifest(store, descriptor, options);
    const platform = descriptor.platform && platformName(descriptor.platform);
    signed.push({ ...result, ...(platform === undefined ? {} : { platform }) });
  }
  return signed;
}
