import { type OptionValues, requiredOption } from '../../shared/cli/command.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { parseReference, parseRegistryReference } from '../../shared/oci/reference.ts';
import { type Policy, parsePolicy } from '../../shared/policy/policy.ts';
import { readText } from './read-text.ts';

/** Options of commands that judge by a policy file. */
export const POLICY_OPTION = {
  policy: { type: 'string', value: 'FILE', help: 'policy file, as the host client has it' },
} as const;

/** Reads the policy file that `--policy` names. Throws USAGE, CONFIG_INVALID, KEY_INVALID. */
export async function readPolicyOption(options: OptionValues): Promise<Policy> {
  const file = requiredOption(options, 'policy');
  return parsePolicy(await readText(file, 'the policy file'), file);
}

/** What the policy calls a repository: `--repository`, or the name in a registry. Throws USAGE. */
export function policyName(text: string, given: string | undefined): string | undefined {
  const ref = given === undefined ? parseReference(text) : parseRegistryReference(given);
  return ref.kind === 'docker' ? `${ref.registry}/${ref.repository}` : undefined;
}

/** The error for what has no name that a policy could know. */
export function noPolicyName(): SnapgateError {
  return new SnapgateError('USAGE', 'a folder or archive has no name to look up in a policy', {
    hint: 'Give --repository HOST/REPO, the name that machines will know the image by.',
  });
}
