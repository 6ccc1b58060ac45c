import { setTimeout as sleep } from 'node:timers/promises';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { ContentStore } from '../../shared/oci/content.ts';
import { type Descriptor, type Manifest, parseManifest } from '../../shared/oci/manifest.ts';
import {
  isIndexType,
  OCI_CONFIG,
  OCI_MANIFEST,
  SIMPLE_SIGNING,
} from '../../shared/oci/media-types.ts';
import { verifyBundle } from '../../shared/signing/bundle.ts';
import {
  type FoundSignature,
  findSignatures,
  legacyTag,
  MAX_SIGNATURE_LAYERS,
} from '../../shared/signing/find-signatures.ts';
import type { Identity } from '../../shared/signing/identity.ts';
import type { PublicKey } from '../../shared/signing/public-key.ts';
import {
  payloadReference,
  SIGNATURE_ANNOTATION,
  verifySimpleSigning,
} from '../../shared/signing/simple-signing.ts';
import { buildBundle, buildLegacy } from './build-signature.ts';
import { buildKeylessBundle, type KeylessSigner } from './keyless.ts';
import { publishBundle, putBytes, storedManifest } from './publish-bundle.ts';
import type { Signer } from './signer.ts';

const MERGE_ATTEMPTS = 8;

/** How a manifest is signed. */
export type SignOptions = {
  readonly signer: Signer | KeylessSigner;
  /**
   * The name that the legacy form carries: `HOST/REPO:TAG`, or `HOST/REPO` where there is no tag.
   * There is no such form without a key.
   */
  readonly dockerReference: string;
  readonly signal?: AbortSignal;
  /** Time that the bundle's manifest says it was made; now, when absent. */
  readonly created?: Date;
};

/** What signing a manifest came to. */
export type SignResult = {
  readonly digest: Digest;
  readonly bundle: 'added' | 'present';
  /** `none` for a signature without a key. */
  readonly legacy: 'added' | 'present' | 'none';
};

/**
 * Signs a manifest in both forms: a bundle as a referrer, and a layer more under the `.sig` tag. A
 * form in which the key has signed it already, for the legacy one under the same docker-reference,
 * is left as it is. Other signatures stay. Throws what the store answers, and UPSTREAM_FAILED when a
 * service that signing without a key needs refuses.
 */
export async function signManifest(
  store: ContentStore,
  subject: Pick<Descriptor, 'mediaType' | 'digest' | 'size'>,
  options: SignOptions,
): Promise<SignResult> {
  const { digest } = subject;
  const { signer } = options;
  if (!('publicKey' in signer)) return signWithoutKey(store, subject, signer, options);
  const known = await signaturesBy(store, digest, options, [signer.publicKey], []);
  const bundle = known.some((found) => found.form === 'bundle') ? 'present' : 'added';
  const named = (found: FoundSignature) =>
    found.form === 'legacy' && payloadReference(found.bytes) === options.dockerReference;
  const legacy = known.some(named) ? 'present' : 'added';
  if (bundle === 'added') {
    const bytes = await buildBundle(signer, digest);
    await publishBundle(store, subject, bytes, options.created ?? new Date());
  }
  if (legacy === 'added') await publishLegacy(store, digest, { ...options, signer });
  return { digest, bundle, legacy };
}

/** What is signed by the signer's own identity is left as it is, where the signer knows that. */
async function signWithoutKey(
  store: ContentStore,
  subject: Pick<Descriptor, 'mediaType' | 'digest' | 'size'>,
  signer: KeylessSigner,
  options: SignOptions,
): Promise<SignResult> {
  const { digest } = subject;
  const own = signer.identity === undefined ? [] : [signer.identity];
  const known = await signaturesBy(store, digest, options, [], own);
  if (known.length > 0) return { digest, bundle: 'present', legacy: 'none' };
  const bytes = await buildKeylessBundle(signer, digest);
  await publishBundle(store, subject, bytes, options.created ?? new Date());
  return { digest, bundle: 'added', legacy: 'none' };
}

async function signaturesBy(
  store: ContentStore,
  digest: Digest,
  { signal }: SignOptions,
  keys: readonly PublicKey[],
  identities: readonly Identity[],
): Promise<FoundSignature[]> {
  const good: FoundSignature[] = [];
  for await (const found of findSignatures(store, digest, signal)) {
    if ('reason' in found) continue;
    const verdict =
      found.form === 'bundle'
        ? verifyBundle(found.bytes, digest, keys, identities)
        : verifySimpleSigning(found.bytes, found.signature, digest, keys);
    if (verdict.good) good.push(found);
  }
  return good;
}

/** Registries know no locks, so: add to what is there, read back, and add again where it was lost. */
async function publishLegacy(
  store: ContentStore,
  subject: Digest,
  { signer, dockerReference, signal }: SignOptions & { readonly signer: Signer },
): Promise<void> {
  const { payload, signature } = await buildLegacy(signer, subject, dockerReference);
  const layer: Descriptor = {
    ...(await putBytes(store, SIMPLE_SIGNING, payload)),
    annotations: { [SIGNATURE_ANNOTATION]: signature },
  };
  const isHeld = (manifest: Manifest | undefined) =>
    manifest?.layers.some((one) => one.annotations?.[SIGNATURE_ANNOTATION] === signature) ?? false;
  const tag = legacyTag(subject);
  for (let attempt = 0; attempt < MERGE_ATTEMPTS; attempt += 1) {
    const before = await legacyManifest(store, tag, signal);
    if (isHeld(before)) return;
    await store.putManifest(storedManifest(await withLayer(store, before, layer)), tag);
    if (attempt > 0) await sleep(Math.random() * 50 * attempt);
  }
  if (isHeld(await legacyManifest(store, tag, signal))) return;
  throw new SnapgateError('UPSTREAM_FAILED', 'another writer keeps replacing the signatures', {
    where: `${store.name}:${tag}`,
    hint: 'Run it again when nobody else signs this image.',
  });
}

async function legacyManifest(
  store: ContentStore,
  tag: string,
  signal: AbortSignal | undefined,
): Promise<Manifest | undefined> {
  try {
    const stored = await store.getManifest(tag, signal);
    return isIndexType(stored.mediaType) ? undefined : parseManifest(stored.bytes);
  } catch (thrown) {
    if (toSnapgateError(thrown).code === 'MANIFEST_UNKNOWN') return undefined;
    throw thrown;
  }
}

/** The config of such a manifest says nothing, but cosign wants its diff_ids to fit the layers. */
async function withLayer(
  store: ContentStore,
  before: Manifest | undefined,
  layer: Descriptor,
): Promise<Manifest> {
  const layers = [...(before?.layers ?? []), layer];
  if (layers.length > MAX_SIGNATURE_LAYERS) {
    throw new SnapgateError('LIMIT_EXCEEDED', `it has ${MAX_SIGNATURE_LAYERS} signatures already`, {
      where: store.name,
      hint: 'Delete its .sig tag and sign it again.',
    });
  }
  const epoch = '0001-01-01T00:00:00Z';
  const config = {
    architecture: '',
    created: epoch,
    history: layers.map(() => ({ created: epoch })),
    os: '',
    rootfs: { type: 'layers', diff_ids: layers.map(({ digest }) => digest) },
    config: {},
  };
  const bytes = Buffer.from(JSON.stringify(config));
  return {
    ...before,
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: await putBytes(store, OCI_CONFIG, bytes),
    layers,
  };
}
