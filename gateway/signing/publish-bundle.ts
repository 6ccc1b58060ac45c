import { sha256 } from '../../shared/digest.ts';
import type { ContentStore, StoredManifest } from '../../shared/oci/content.ts';
import type { Descriptor, Manifest } from '../../shared/oci/manifest.ts';
import { OCI_EMPTY, OCI_MANIFEST, SIGSTORE_BUNDLE } from '../../shared/oci/media-types.ts';
import { SIGN_PREDICATE } from '../../shared/signing/statement.ts';

/** Publishes a bundle as a referrer of what it signs. Throws what the store answers. */
export async function publishBundle(
  store: ContentStore,
  { mediaType, digest, size }: Pick<Descriptor, 'mediaType' | 'digest' | 'size'>,
  bytes: Uint8Array,
  created: Date,
): Promise<void> {
  const manifest: Manifest = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    artifactType: SIGSTORE_BUNDLE,
    config: await putBytes(store, OCI_EMPTY, Buffer.from('{}')),
    layers: [await putBytes(store, SIGSTORE_BUNDLE, bytes)],
    subject: { mediaType, digest, size },
    annotations: {
      'dev.sigstore.bundle.content': 'dsse-envelope',
      'dev.sigstore.bundle.predicateType': SIGN_PREDICATE,
      'org.opencontainers.image.created': created.toISOString().replace(/\.\d+Z$/, 'Z'),
    },
  };
  await store.putManifest(storedManifest(manifest));
}

/** Stores a small blob. */
export async function putBytes(
  store: ContentStore,
  mediaType: string,
  bytes: Uint8Array,
): Promise<Descriptor> {
  const blob = { mediaType, digest: sha256(bytes), size: bytes.byteLength };
  const body = async function* () {
    yield bytes;
  };
  await store.putBlob(blob, body());
  return blob;
}

/** A manifest as it is stored. */
export function storedManifest(manifest: Manifest): StoredManifest {
  const bytes = Buffer.from(JSON.stringify(manifest));
  return { bytes, digest: sha256(bytes), mediaType: OCI_MANIFEST };
}
