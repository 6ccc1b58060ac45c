import { readFile } from 'node:fs/promises';
import type { Command, CommandContext } from '../../shared/cli/command.ts';
import { SnapgateError } from '../../shared/errors.ts';
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
import { parsePolicy } from '../../shared/policy/policy.ts';
import { loadConfig } from '../config.ts';
import { Line } from '../net/gateway-source.ts';
import { ownPlatform } from '../update/target.ts';
import { readPolicy } from '../update/trust.ts';
import { atMost, overridesFrom } from './options.ts';

/** What `policy test --json` prints. */
type PolicyTestReport = {
  /** The policy file, and the name that it was asked about. */
  readonly policy: string;
  readonly repository: string;
  readonly accepted: boolean;
  /** Of the manifest and, for an index, of this machine's image in it. */
  readonly manifests: readonly Explanation[];
};

export const policyTestCommand: Command<PolicyTestReport> = {
  name: 'policy test',
  summary: 'Explain how the policy of this machine judges an image, and change nothing',
  arguments: '[TAG|DIGEST]',
  options: {},
  run: test,
  print({ policy, repository, manifests }, { out }) {
    out.write(`${policy}\nasked about ${repository}\n`);
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
    const { repository: reader } = await line.connect(signal);
    const stored = await reader.getManifest(positionals[0] ?? config.tag, signal);
    const repository = config.name;
    const manifests = await explainDecision({
      ...{ reader, repository, policy, stored, platform, signal, now: new Date() },
    });
    const accepted = manifests.at(-1)?.refusal === null;
    return { policy: config.policy, repository, accepted, manifests };
  } finally {
    line.close();
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
