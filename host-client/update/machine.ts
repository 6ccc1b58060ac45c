import { digestHex } from '../../shared/digest.ts';
import type { ContentReader } from '../../shared/oci/content.ts';
import type { Platform } from '../../shared/oci/manifest.ts';
import type { Channels, FollowedChannel } from '../channel/channels.ts';
import type { Config } from '../config.ts';
import type { Deployments } from '../deploy/deployments.ts';
import type { GatewaySource } from '../net/gateway-source.ts';
import type { HeldImage, Storage } from '../storage/storage.ts';
import type { Downloads } from './downloads.ts';
import type { UpdateEvents } from './events.ts';
import type { UpdateReports } from './reports.ts';
import type { StateFolder } from './state.ts';
import type { Trust } from './trust.ts';

/** Where updates come from: a gateway, a plain registry, or a file that was carried here. */
export type UpdateSource = {
  readonly reader: ContentReader;
  /** Undefined where nobody can plan or make deltas. */
  readonly api: GatewaySource['api'] | undefined;
  /** What the tag named a moment ago, if that was cheap to learn. */
  readonly tagDigest: GatewaySource['tagDigest'];
  readonly trust: Trust;
  /** What of the source is wanted, where that is not the machine's tag. */
  readonly wanted?: string;
  /** The signed statement that says so, where the policy asks for one. */
  readonly channel?: FollowedChannel;
};

/** The machine with all that acts on it. */
export type Machine = {
  readonly config: Config;
  readonly platform: Platform;
  readonly state: StateFolder;
  readonly channels: Channels;
  readonly downloads: Downloads;
  readonly storage: Storage;
  readonly deployments: Deployments;
  readonly events: UpdateEvents;
  readonly reports: Pick<UpdateReports, 'tell'>;
  /** Opens the line and learns what the tag means; nothing goes over it before. */
  readonly connect: (signal?: AbortSignal) => Promise<UpdateSource>;
  /** Opens the line to ask for what is known by its digest: the tag may mean anything. */
  readonly reach: (signal?: AbortSignal) => Promise<Pick<UpdateSource, 'reader' | 'trust'>>;
  /** Bytes that came over the line so far. */
  readonly received: () => number;
};

/** The name under which Podman shows the image of the machine's channel. */
export function channelName({ name, tag }: Pick<Config, 'name' | 'tag'>): string {
  return `${name}:${tag}`;
}

/**
 * A name that stays with one image when the channel moves on, so that `podman image prune` does not
 * take what the next delta starts from.
 */
export function imageName(
  { name }: Pick<Config, 'name'>,
  { config }: Pick<HeldImage, 'config'>,
): string {
  return `${name}:id-${digestHex(config).slice(0, 12)}`;
}
