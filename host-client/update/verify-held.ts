import { createHash } from 'node:crypto';
import { type Digest, digestFromHex } from '../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import { parseIndex } from '../../shared/oci/manifest.ts';
import type { HeldImage } from '../storage/storage.ts';
import type { Machine } from './machine.ts';

/** What `verify --json` prints. */
export type VerifyReport = {
  /** Digest of the image's config. */
  readonly image: Digest;
  readonly manifest: Digest;
  /** Whose signatures count; null when they were not asked for. */
  readonly signers: readonly string[] | null;
  readonly layers: readonly {
    readonly diffId: Digest;
    /** Bytes of the tar stream that was rebuilt from what is stored. */
    readonly bytes: number;
  }[];
};

/** What is to be verified, and how. */
export type VerifyHeldOptions = {
  /** Id of a deployment, or the start of an image's id; what boots next when absent. */
  readonly which?: string | undefined;
  /** Do not ask the gateway for signatures. */
  readonly offline?: boolean;
  readonly signal?: AbortSignal;
};

/**
 * Judges an image that is held: its signatures by the policy of today, then every byte of its layers
 * against its config. Throws NOTHING_TO_DO, DIFF_ID_MISMATCH, STORAGE_INVALID and what trust throws.
 */
export async function verifyHeld(
  machine: Machine,
  { which, offline, signal }: VerifyHeldOptions,
): Promise<VerifyReport> {
  const image = await findImage(machine, which);
  const { digest: manifest } = await machine.storage.readManifest(image);
  let signers: readonly string[] | null = null;
  if (!offline) {
    machine.events.step('resolve', manifest);
    signers = await judge(machine, manifest, signal);
  }
  machine.events.step('verify');
  const layers: VerifyReport['layers'][number][] = [];
  for (const diffId of image.diffIds) {
    layers.push({ diffId, bytes: await checkLayer(machine, diffId, signal) });
  }
  return { image: image.config, manifest, signers, layers };
}

/** Names of those who signed the image, or the index that it was chosen from. */
async function judge(
  { reach, state }: Machine,
  manifest: Digest,
  signal: AbortSignal | undefined,
): Promise<readonly string[]> {
  const { reader, trust } = await reach(signal);
  try {
    return (await trust(manifest, 'image', signal)).signers;
  } catch (thrown) {
    const seen = await state.seen();
    const index = seen?.manifest === manifest ? seen.resolved : manifest;
    if (toSnapgateError(thrown).exitStatus !== 3 || index === manifest) throw thrown;
    const { bytes } = await reader.getManifest(index, signal);
    if (!parseIndex(bytes).manifests.some(({ digest }) => digest === manifest)) throw thrown;
    const accepted = await trust(index, 'image', signal);
    return (await trust(manifest, 'image', signal, { within: { index, accepted } })).signers;
  }
}

async function findImage(
  { storage, deployments }: Machine,
  which: string | undefined,
): Promise<HeldImage> {
  const all = await deployments.list();
  const { next } = await deployments.roles(all);
  const deployment = which === undefined ? next : all.find(({ id }) => id === which);
  const found = (await storage.listImages()).filter(({ config }) =>
    deployment === undefined
      ? which !== undefined && config.startsWith(`sha256:${which.replace(/^sha256:/, '')}`)
      : config === deployment.config,
  );
  const [image] = found;
  if (image !== undefined && found.length === 1) return image;
  throw new SnapgateError('NOTHING_TO_DO', 'there is no such image to verify', {
    where: which ?? 'what boots next',
    hint: 'snaphost list shows what there is.',
  });
}

async function checkLayer(
  { storage }: Machine,
  diffId: Digest,
  signal: AbortSignal | undefined,
): Promise<number> {
  const hash = createHash('sha256');
  let bytes = 0;
  try {
    for await (const piece of storage.reassembleLayer(diffId)) {
      signal?.throwIfAborted();
      hash.update(piece.bytes);
      bytes += piece.bytes.length;
    }
  } catch (thrown) {
    const error = toSnapgateError(thrown);
    if (error.code !== 'DELTA_SOURCE_MISMATCH') throw error;
    throw damaged(diffId, error.message);
  }
  const actual = digestFromHex(hash.digest('hex'));
  if (actual !== diffId) throw damaged(diffId, `it is ${actual} now`);
  return bytes;
}

function damaged(diffId: Digest, why: string): SnapgateError {
  return new SnapgateError('DIFF_ID_MISMATCH', `layer ${diffId} was changed: ${why}`, {
    hint: 'Remove the image with podman rmi, then run snaphost update to fetch it again.',
  });
}
