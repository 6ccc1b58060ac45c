import { type Command, type CommandContext, stringOption } from '../../shared/cli/command.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import { parsePlatform } from '../../shared/oci/manifest.ts';
import {
  type Explanation,
  explainDecision,
  explanationLines,
} from '../../shared/policy/explain.ts';
import {
  type ContainersPolicy,
  exportContainersPolicy,
} from '../../shared/policy/export-containers-policy.ts';
import type { Policy } from '../../shared/policy/policy.ts';
import { longestMatch } from '../../shared/policy/repository-pattern.ts';
import { type ChannelExplanation, channelLines, explainChannel } from '../../shared/tuf/explain.ts';
import { issuedAt } from '../../shared/tuf/metadata.ts';
import { channelPath } from '../../shared/tuf/roles.ts';
import { verifyFiles } from '../../shared/tuf/verify-files.ts';
import { channelUnknown, findStatement, refuseAged, refuseExpired } from '../../shared/tuf/view.ts';
import { openText, REGISTRY_OPTIONS } from './delta-options.ts';
import { noPolicyName, POLICY_OPTION, policyName, readPolicyOption } from './policy-file.ts';
import { readMetadataFrom } from './tuf/read-metadata.ts';

/** What `policy test --json` prints. */
type PolicyTestResult = {
  readonly reference: string;
  /** The name that the policy was asked about. */
  readonly repository: string;
  readonly accepted: boolean;
  /** What the tag means by signed statements; null where that was not asked. */
  readonly channel: ChannelExplanation | null;
  /** Of the manifest and, for an index, of the image of the platform in it. */
  readonly manifests: readonly Explanation[];
};

export const policyTestCommand: Command<PolicyTestResult> = {
  name: 'policy test',
  summary: 'Explain how a policy judges an image or a delta, and change nothing',
  arguments: 'REF',
  options: {
    policy: { ...POLICY_OPTION.policy, required: true },
    repository: {
      type: 'string',
      value: 'HOST/REPO',
      help: 'name to look up in the policy (default: that of a docker:// reference)',
    },
    tuf: {
      ...{ type: 'string', value: 'DIR|URL' },
      help: 'channel metadata, of a folder or a gateway, to explain what the tag means',
    },
    platform: {
      type: 'string',
      value: 'OS/ARCH[/VARIANT]',
      help: 'explain the image of this platform too, when REF is an index',
    },
    ...REGISTRY_OPTIONS,
  },
  run: test,
  print: ({ reference, repository, channel, manifests }, { out }) => {
    out.write(`${reference}\nas ${repository}\n`);
    if (channel !== null) out.write(`\n${channelLines(channel).join('\n')}\n`);
    for (const one of manifests) out.write(`\n${explanationLines(one).join('\n')}\n`);
  },
};

async function test(context: CommandContext): Promise<PolicyTestResult> {
  const [text, ...rest] = context.positionals;
  const { options, signal } = context;
  if (text === undefined || rest.length > 0) {
    throw new SnapgateError('USAGE', 'name one image or delta', {
      hint: 'For example: snapgate policy test docker://registry.example/os:v1 --policy policy.json',
    });
  }
  const policy = await readPolicyOption(options);
  const repository = policyName(text, stringOption(options, 'repository'));
  if (repository === undefined) throw noPolicyName();
  const wanted = stringOption(options, 'platform');
  const platform = wanted === undefined ? undefined : parsePlatform(wanted);
  const opened = await openText(context, text);
  try {
    const reader = opened.store;
    const stored = await reader.getManifest(opened.tagOrDigest, signal);
    const manifests = await explainDecision({
      ...{ reader, repository, policy, stored, signal, now: new Date() },
      ...(platform && { platform }),
    });
    const channel = await explainTag(context, policy, repository, opened.tag);
    const isStated =
      channel === null || (channel.refusal === null && channel.digest === stored.digest);
    const accepted = manifests.at(-1)?.refusal === null && isStated;
    return { reference: opened.name, repository, accepted, channel, manifests };
  } finally {
    await opened.close();
  }
}

/** What the tag means by the metadata of `--tuf`, where the policy asks for that. */
async function explainTag(
  { options, signal }: CommandContext,
  policy: Policy,
  repository: string,
  tag: string | undefined,
): Promise<ChannelExplanation | null> {
  const place = stringOption(options, 'tuf');
  const rule = longestMatch(policy.rules, repository)?.channel;
  if (place === undefined || rule === undefined || tag === undefined) return null;
  const name = repository.slice(repository.indexOf('/') + 1);
  const about = { path: channelPath(name, tag), root: rule.root };
  try {
    const view = verifyFiles(rule.anchor, await readMetadataFrom(place, signal), place);
    const found = findStatement(view, about.path);
    const now = new Date();
    refuseExpired(view, found?.role ?? 'targets', now, place);
    const { maximumAgeSeconds } = rule;
    if (maximumAgeSeconds !== undefined) refuseAged(view, maximumAgeSeconds, now, place);
    if (found === undefined) throw channelUnknown(about.path);
    return explainChannel({ ...about, found, confirmed: issuedAt(view.timestamp.signed) });
  } catch (thrown) {
    const refusal = toSnapgateError(thrown);
    if (![3, 4].includes(refusal.exitStatus)) throw refusal;
    return explainChannel({ ...about, found: undefined, refusal });
  }
}

/** What `policy export --json` prints. */
type PolicyExportResult = { readonly policy: ContainersPolicy; readonly notes: readonly string[] };

export const policyExportCommand: Command<PolicyExportResult> = {
  name: 'policy export',
  summary: 'Print a policy as the policy.json that Podman, skopeo and bootc read',
  options: {
    policy: { ...POLICY_OPTION.policy, required: true },
    weaker: { type: 'boolean', help: 'export rules as well that are weaker there than here' },
  },
  async run({ options, positionals }) {
    if (positionals.length > 0) throw new SnapgateError('USAGE', 'unknown argument');
    const policy = await readPolicyOption(options);
    return exportContainersPolicy(policy, { now: new Date(), weaker: options.weaker === true });
  },
  print: ({ policy, notes }, { out, err }) => {
    out.write(`${JSON.stringify(policy, undefined, 2)}\n`);
    for (const note of notes) err.write(`note: ${note}\n`);
    err.write('note: Podman needs use-sigstore-attachments: true in registries.d as well\n');
  },
};
