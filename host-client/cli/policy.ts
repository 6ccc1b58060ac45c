import { readFile } from 'node:fs/promises';
import type { Command, CommandContext } from '../../shared/cli/command.ts';
import { isDigest } from '../../shared/digest.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import { parsePlatform } from '../../shared/oci/manifest.ts';
import {
  type Explanation,
  explainDecision,
  explanationLines,
} from '../../shared/policy/explain.ts';
import {
  type Converted,
  importContainersPolicy,
  type PolicyFile,
} from '../../shared/policy/import-containers-policy.ts';
import { type ChannelRule, parsePolicy } from '../../shared/policy/policy.ts';
import { type ChannelExplanation, channelLines, explainChannel } from '../../shared/tuf/explain.ts';
import { channelPath } from '../../shared/tuf/roles.ts';
import { Channels } from '../channel/channels.ts';
import { gatewayMetadata, type MetadataSource } from '../channel/metadata-source.ts';
import { type Config, loadConfig } from '../config.ts';
import { Line } from '../net/gateway-source.ts';
import { channelOf } from '../update/follow-channel.ts';
import { ownPlatform } from '../update/target.ts';
import { readPolicy } from '../update/trust.ts';
import { atMost, overridesFrom } from './options.ts';

/** What `policy test --json` prints. */
type PolicyTestReport = {
  /** The policy file, and the name that it was asked about. */
  readonly policy: string;
  readonly repository: string;
  readonly accepted: boolean;
  /** What the tag means by signed statements; null where the policy does not ask for them. */
  readonly channel: ChannelExplanation | null;
  /** Of the manifest and, for an index, of this machine's image in it. */
  readonly manifests: readonly Explanation[];
};

export const policyTestCommand: Command<PolicyTestReport> = {
  name: 'policy test',
  summary: 'Explain how the policy of this machine judges an image, and change nothing',
  arguments: '[TAG|DIGEST]',
  options: {},
  run: test,
  print({ policy, repository, channel, manifests }, { out }) {
    out.write(`${policy}\nasked about ${repository}\n`);
    if (channel !== null) out.write(`\n${channelLines(channel).join('\n')}\n`);
    for (const one of manifests) out.write(`\n${explanationLines(one).join('\n')}\n`);
  },
};

async function test({
  options,
  positionals,
  signal,
  io,
}: CommandContext): Promise<PolicyTestReport> {
  atMost(positionals, 1);
  const config = await loadConfig(overridesFrom(options));
  const policy = await readPolicy(config.policy);
  const platform = config.platform === undefined ? ownPlatform() : parsePlatform(config.platform);
  const line = new Line(config, (message) => io.err.write(`${message}\n`));
  try {
    const asked = positionals[0] ?? config.tag;
    const rule = isDigest(asked) ? undefined : channelOf(policy, config.name);
    const repository = config.name;
    return await line.first(async ({ gateway, transport, repository: reader }) => {
      const source = gatewayMetadata(transport, gateway);
      const channel =
        rule === undefined
          ? null
          : await explainFollowing({ ...config, tag: asked }, rule, source, signal);
      // Nothing is known that could be judged where the channel is refused.
      const means = channel === null ? asked : channel.digest;
      const stored = means === null ? undefined : await reader.getManifest(means, signal);
      const manifests =
        stored === undefined
          ? []
          : await explainDecision({
              ...{ reader, repository, policy, stored, platform, signal, now: new Date() },
            });
      const accepted = manifests.at(-1)?.refusal === null && (channel?.refusal ?? null) === null;
      return { policy: config.policy, repository, accepted, channel, manifests };
    });
  } finally {
    line.close();
  }
}

/** Follows a channel without keeping anything, and says how that went. */
async function explainFollowing(
  config: Config,
  rule: ChannelRule,
  source: MetadataSource,
  signal: AbortSignal,
): Promise<ChannelExplanation> {
  const about = { path: channelPath(config.repository, config.tag), root: rule.root };
  try {
    const found = await new Channels(config.stateDir).follow({
      ...{ rule, source, signal, path: about.path, dryRun: true },
      timeoutMs: config.waits.metadataSeconds * 1000,
    });
    return explainChannel({ ...about, found, confirmed: found.confirmed });
  } catch (thrown) {
    const refusal = toSnapgateError(thrown);
    if (![3, 4].includes(refusal.exitStatus)) throw refusal;
    return explainChannel({ ...about, found: undefined, refusal });
  }
}

export const policyImportCommand: Command<Converted<PolicyFile>> = {
  name: 'policy import',
  summary: 'Print the policy file that says what a policy.json of Podman says',
  arguments: 'FILE',
  options: {},
  async run({ positionals }) {
    const [file = ''] = positionals;
    atMost(positionals, 1);
    if (file === '') throw new SnapgateError('USAGE', 'name a policy.json');
    const converted = await importContainersPolicy(await readText(file), readText, file);
    // What is printed is a policy that is taken.
    parsePolicy(JSON.stringify(converted.policy), file);
    return converted;
  },
  print({ policy, notes }, { out, err }) {
    out.write(`${JSON.stringify(policy, undefined, 2)}\n`);
    for (const note of notes) err.write(`note: ${note}\n`);
  },
};

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    throw new SnapgateError('CONFIG_INVALID', 'the file cannot be read', {
      where: file,
      hint: 'Correct its path or its permissions.',
      cause,
    });
  }
}
