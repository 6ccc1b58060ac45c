import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { type Digest, digestHex } from '../../shared/digest.ts';
import type { ContentStore } from '../../shared/oci/content.ts';
import { OCI_EMPTY, SIGSTORE_BUNDLE, SIMPLE_SIGNING } from '../../shared/oci/media-types.ts';
import { type PublicKey, publicKeyOf } from '../../shared/signing/public-key.ts';
import { putBytes, storedManifest } from './tiny-image.ts';

/** A key pair made for a test. */
export type TestKey = { readonly privateKey: KeyObject; readonly publicKey: PublicKey };

/** Makes an ECDSA P-256 key. */
export function makeKey(): TestKey {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { privateKey, publicKey: publicKeyOf(privateKey) };
}

/** What a forged bundle has that a good one has not. */
export type BundleChanges = {
  readonly statement?: unknown;
  readonly payloadType?: string;
  readonly mediaType?: string;
  readonly hint?: string;
  /** Changes the finished bundle. */
  readonly spoil?: (bundle: ReturnType<typeof bundleObject>) => unknown;
};

function bundleObject(key: TestKey, statement: string, changes: BundleChanges) {
  const payloadType = changes.payloadType ?? 'application/vnd.in-toto+json';
  const payload = Buffer.from(statement);
  const head = `DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `;
  const sig = sign('sha256', Buffer.concat([Buffer.from(head), payload]), key.privateKey);
  return {
    mediaType: changes.mediaType ?? SIGSTORE_BUNDLE,
    verificationMaterial: { publicKey: { hint: changes.hint ?? key.publicKey.hint } },
    dsseEnvelope: {
      payload: payload.toString('base64'),
      payloadType,
      signatures: [{ sig: sig.toString('base64') }],
    },
  };
}

/** The statement of an image signature, written out. */
export function statementOf(subject: Digest) {
  return {
    _type: 'https://in-toto.io/Statement/v1',
    subject: [{ digest: { sha256: digestHex(subject) }, annotations: {} }],
    predicateType: 'https://sigstore.dev/cosign/sign/v1',
    predicate: {},
  };
}

/** Signs a bundle without the code under test, or forges one. A statement that is text is taken as it is. */
export function makeBundle(key: TestKey, subject: Digest, changes: BundleChanges = {}): Buffer {
  const statement = changes.statement ?? statementOf(subject);
  const text = typeof statement === 'string' ? statement : JSON.stringify(statement);
  const bundle = bundleObject(key, text, changes);
  return Buffer.from(JSON.stringify(changes.spoil?.(bundle) ?? bundle));
}

/** The payload of a legacy signature, written out. */
export function payloadOf(subject: Digest) {
  return {
    critical: {
      identity: { 'docker-reference': 'registry.test/os/edge:v1' },
      image: { 'docker-manifest-digest': subject },
      type: 'cosign container image signature',
    },
    optional: null,
  };
}

/** Signs a legacy payload. */
export function makeLegacy(key: TestKey, payload: unknown): { payload: Buffer; signature: string } {
  const bytes = Buffer.from(typeof payload === 'string' ? payload : JSON.stringify(payload));
  return {
    payload: bytes,
    signature: sign('sha256', bytes, key.privateKey).toString('base64'),
  };
}

/** Publishes a bundle as a referrer of a manifest. */
export async function putBundle(
  store: ContentStore,
  subject: { digest: Digest; mediaType: string; bytes: Uint8Array },
  bundle: Uint8Array,
): Promise<Digest> {
  const { digest, mediaType, bytes } = subject;
  const manifest = storedManifest({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    artifactType: SIGSTORE_BUNDLE,
    config: await putBytes(store, OCI_EMPTY, '{}'),
    layers: [await putBytes(store, SIGSTORE_BUNDLE, bundle)],
    subject: { mediaType, digest, size: bytes.byteLength },
  });
  await store.putManifest(manifest);
  return manifest.digest;
}

/** Publishes legacy signatures under the `.sig` tag, in place of what is there. */
export async function putLegacy(
  store: ContentStore,
  subject: Digest,
  signatures: readonly { payload: Uint8Array; signature: string }[],
): Promise<void> {
  const layers = [];
  for (const { payload, signature } of signatures) {
    const annotations = { 'dev.cosignproject.cosign/signature': signature };
    layers.push({ ...(await putBytes(store, SIMPLE_SIGNING, payload)), annotations });
  }
  const manifest = storedManifest({
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: await putBytes(store, OCI_EMPTY, '{}'),
    layers,
  });
  await store.putManifest(manifest, `sha256-${digestHex(subject)}.sig`);
}
