import { type Digest, digestFromHex, digestHex } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { DeploymentRecord } from '../deploy/deployment.ts';

/** What container-snap calls a snapshot: an image itself, or a writable snapshot made from it. */
export type SnapshotId = {
  /** Digest of the image's config; its hex digits are Podman's image id. */
  readonly config: Digest;
  /** Number of the writable snapshot; undefined for the image itself. */
  readonly work: number | undefined;
};

/** Parses `IMAGE-ID` or `IMAGE-ID-workN`. Throws USAGE. */
export function parseSnapshotId(text: string): SnapshotId {
  const match = /^([0-9a-f]{64})(?:-work([1-9]\d{0,8}))?$/.exec(text);
  if (match?.[1] === undefined) {
    throw new SnapgateError('USAGE', `not a snapshot id: ${text.slice(0, 100)}`, {
      hint: 'An id is that of an image in Podman, or that followed by -workN; see list-snapshots.',
    });
  }
  return {
    config: digestFromHex(match[1]),
    work: match[2] === undefined ? undefined : Number(match[2]),
  };
}

/** The id that stands for an image. */
export function imageSnapshotId({ config }: Pick<SnapshotId, 'config'>): string {
  return digestHex(config);
}

/**
 * The id that stands for a deployment: both number the snapshots of an image alike, and container-snap
 * spells the image's id out.
 */
export function deploymentSnapshotId({
  id,
  config,
}: Pick<DeploymentRecord, 'id' | 'config'>): string {
  return `${digestHex(config)}-work${id.slice(id.lastIndexOf('-') + 1)}`;
}
