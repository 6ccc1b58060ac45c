import { type Command, type CommandContext, stringOption } from '../../shared/cli/command.ts';
import { SnapgateError } from '../../shared/errors.ts';
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
import { openText, REGISTRY_OPTIONS } from './delta-options.ts';
import { noPolicyName, POLICY_OPTION, policyName, readPolicyOption } from './policy-file.ts';

/** What `policy test --json` prints. */
type PolicyTestResult = {
  readonly reference: string;
  /** The name that the policy was asked about. */
  readonly repository: string;
  readonly accepted: boolean;
  /** Of the manifest and, for an index, of the image of the platform in it. */
  readonly manifests: readonly Explanation[];
};

export const policyTestCommand: Command<PolicyTestResult> = {
  name: 'policy test',
  summary: 'Explain how a policy judges an image or a delta, and change nothing',
  arguments: 'REF',
  options: {
    ...POLICY_OPTION,
    repository: {
      type: 'string',
      value: 'HOST/REPO',
      help: 'name to look up in the policy (default: that of a docker:// reference)',
    },
    platform: {
      type: 'string',
      value: 'OS/ARCH[/VARIANT]',
      help: 'explain the image of this platform too, when REF is an index',
    },
    ...REGISTRY_OPTIONS,
  },
  run: test,
  print: ({ reference, repository, manifests }, { out }) => {
    out.write(`${reference}\nas ${repository}\n`);
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
    const accepted = manifests.at(-1)?.refusal === null;
    return { reference: opened.name, repository, accepted, manifests };
  } finally {
    await opened.close();
  }
}

/** What `policy export --json` prints. */
type PolicyExportResult = { readonly policy: ContainersPolicy; readonly notes: readonly string[] };

export const policyExportCommand: Command<PolicyExportResult> = {
  name: 'policy export',
  summary: 'Print a policy as the policy.json that Podman, skopeo and bootc read',
  options: {
    ...POLICY_OPTION,
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
