import type { ContentReader } from '../../shared/oci/content.ts';
import type { ChannelRule, Policy } from '../../shared/policy/policy.ts';
import { longestMatch } from '../../shared/policy/repository-pattern.ts';
import { channelPath } from '../../shared/tuf/roles.ts';
import type { Channels } from '../channel/channels.ts';
import type { MetadataSource } from '../channel/metadata-source.ts';
import type { Config } from '../config.ts';
import type { UpdateSource } from './machine.ts';
import { trustBy } from './trust.ts';

/** What a machine's policy asks about the meaning of its tag; undefined where it asks nothing. */
export function channelOf(policy: Policy, name: string): ChannelRule | undefined {
  return longestMatch(policy.rules, name)?.channel;
}

/** What is needed to follow a channel. */
export type Following = {
  readonly config: Pick<Config, 'name' | 'repository' | 'tag' | 'waits'>;
  readonly policy: Policy;
  readonly rule: ChannelRule;
  readonly channels: Channels;
};

/**
 * What the machine's tag means by a signed statement. From here on everything goes by the digest that
 * was stated, whatever the registry says of the tag, and by the time that was proved.
 */
export async function followedBy(
  { config, policy, rule, channels }: Following,
  reader: ContentReader,
  source: MetadataSource,
  signal?: AbortSignal,
): Promise<Pick<UpdateSource, 'tagDigest' | 'wanted' | 'channel' | 'trust'> & { wanted: string }> {
  const channel = await channels.follow({
    ...{ rule, source, signal, path: channelPath(config.repository, config.tag) },
    timeoutMs: config.waits.metadataSeconds * 1000,
  });
  const { digest } = channel.statement;
  const now = () => new Date(Math.max(Date.now(), channel.now.getTime()));
  const trust = trustBy(policy, config.name, reader, now);
  return { tagDigest: digest, wanted: digest, channel, trust };
}
