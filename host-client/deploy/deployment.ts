import * as v from 'valibot';
import type { Digest } from '../../shared/digest.ts';
import { digestSchema as digest } from '../../shared/oci/manifest.ts';

/**
 * What became of a deployment: staged, made and not chosen yet; trying, chosen and not proved yet;
 * good, it has worked; bad, it has failed or was gone back from, and is not chosen again unasked.
 */
const stateSchema = v.picklist(['staged', 'trying', 'good', 'bad']);

/** The record of a deployment, as it stands beside it. */
export const deploymentSchema = v.object({
  version: v.literal(1),
  id: v.string(),
  /** Name of the image, `host/repository:tag`. */
  image: v.string(),
  /** Digest of the image's manifest. */
  manifest: digest,
  /** Digest of the image's config, which is Podman's image id. */
  config: digest,
  /** ISO 8601. */
  created: v.string(),
  state: stateSchema,
  /** Why it is bad. */
  reason: v.optional(v.string()),
  /** Id of the boot during which it was made: as long as that lasts, somebody may be at work on it. */
  boot: v.optional(v.string()),
  /** Never removed by `gc`. */
  pinned: v.optional(v.boolean(), false),
});
export type DeploymentRecord = v.InferOutput<typeof deploymentSchema>;

/** A bootable, writable snapshot of an image's top layer. */
export type Deployment = DeploymentRecord & {
  /** The snapshot: a subvolume. */
  readonly path: string;
  /** Id of the subvolume. */
  readonly subvolume: number;
};

/** What decides which deployment boots next. */
export type BootSwitch = {
  readonly name: string;
  /** Whether what is not proved runs out of tries by itself. */
  readonly countsTries: boolean;
  /** Id of the subvolume that boots next. */
  next(): Promise<number>;
  /** Makes a deployment the one that boots next: atomic, and durable when it returns. */
  choose(deployment: Deployment): Promise<void>;
  /** Makes a subvolume boot next that is no deployment: what was there before the first one. */
  chooseSubvolume(id: number): Promise<void>;
  /** Ends the counting of tries of a deployment that works. */
  bless(id: string): Promise<void>;
  /** Ids of deployments whose tries are used up. */
  failed(): Promise<readonly string[]>;
  /** Removes what the boot loader has of a deployment, kernels included. */
  forget(id: string): Promise<void>;
};

/** Ids are `HEX-N`: the first digits of the image's id, and a number that tells snapshots apart. */
export function nextDeploymentId(config: Digest, existing: readonly { id: string }[]): string {
  const prefix = config.slice('sha256:'.length, 'sha256:'.length + 12);
  const numbers = existing
    .map(({ id }) => new RegExp(`^${prefix}-(\\d{1,9})$`).exec(id)?.[1])
    .map((text) => Number(text ?? 0));
  return `${prefix}-${Math.max(0, ...numbers) + 1}`;
}

/** Whether a name in the folder of deployments is that of one. */
export function isDeploymentId(name: string): boolean {
  return /^[0-9a-f]{12}-\d{1,9}$/.test(name);
}
