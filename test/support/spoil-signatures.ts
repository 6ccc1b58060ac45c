import { type Digest, digestHex } from '../../shared/digest.ts';
import type { StoredManifest } from '../../shared/oci/content.ts';
import { parseManifest } from '../../shared/oci/manifest.ts';
import { OCI_INDEX, OCI_MANIFEST, SIGSTORE_BUNDLE } from '../../shared/oci/media-types.ts';
import type { Repository } from '../../shared/registry/repository.ts';
import { collectBytes, putBytes, storedManifest } from './tiny-image.ts';

/** Puts the signatures of one manifest on another, as somebody who owns the registry can. */
export async function moveSignatures(
  store: Repository,
  from: Digest,
  to: StoredManifest,
): Promise<void> {
  const legacy = await store.getManifest(`sha256-${digestHex(from)}.sig`);
  await store.putManifest(legacy, `sha256-${digestHex(to.digest)}.sig`);
  for (const { digest } of await store.listReferrers(from)) {
    const { bytes } = await store.getManifest(digest);
    const subject = { mediaType: OCI_MANIFEST, digest: to.digest, size: to.bytes.byteLength };
    await store.putManifest(storedManifest({ ...parseManifest(bytes), subject }));
  }
}

/** Changes one byte of every signature, and leaves the rest as it was. */
export async function spoilSignatures(store: Repository, subject: StoredManifest): Promise<void> {
  const spoil = (signature: string) => {
    const bytes = Buffer.from(signature, 'base64');
    bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
    return bytes.toString('base64');
  };
  const tag = `sha256-${digestHex(subject.digest)}.sig`;
  const legacy = parseManifest((await store.getManifest(tag)).bytes);
  const layers = legacy.layers.map((layer) => {
    const name = 'dev.cosignproject.cosign/signature';
    return { ...layer, annotations: { [name]: spoil(layer.annotations?.[name] ?? '') } };
  });
  await store.putManifest(storedManifest({ ...legacy, layers }), tag);
  const referrers = await store.listReferrers(subject.digest);
  const index = { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [] };
  await store.putManifest(storedManifest(index, OCI_INDEX), `sha256-${digestHex(subject.digest)}`);
  for (const { digest } of referrers) {
    const manifest = parseManifest((await store.getManifest(digest)).bytes);
    const [layer] = manifest.layers;
    if (layer === undefined) continue;
    const bundle = JSON.parse((await collectBytes(store.openBlob(layer))).toString());
    const { signatures } = bundle.dsseEnvelope;
    signatures[0].sig = spoil(signatures[0].sig);
    const spoilt = await putBytes(store, SIGSTORE_BUNDLE, JSON.stringify(bundle));
    await store.putManifest(storedManifest({ ...manifest, layers: [spoilt] }));
  }
}
