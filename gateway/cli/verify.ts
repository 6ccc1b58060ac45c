import { type Command, type CommandContext, stringOption } from '../../shared/cli/command.ts';
import { formatTable } from '../../shared/cli/format.ts';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { parsePlatform } from '../../shared/oci/manifest.ts';
import { NO_CONDITIONS } from '../../shared/policy/conditions.ts';
import { kindOf } from '../../shared/policy/explain.ts';
import type { Policy } from '../../shared/policy/policy.ts';
import { demandOf, signersOf } from '../../shared/policy/requirement.ts';
import {
  type Examination,
  type ExaminedSignature,
  examineManifest,
  refusalOf,
} from '../../shared/policy/verify-manifest.ts';
import { parsePublicKey } from '../../shared/signing/public-key.ts';
import { resolveManifest } from '../plan/read-image.ts';
import { openText, REGISTRY_OPTIONS } from './delta-options.ts';
import { readKeyFile } from './keys.ts';
import { noPolicyName, POLICY_OPTION, policyName, readPolicyOption } from './policy-file.ts';

/** What `verify --json` prints. */
type VerifyResult = {
  readonly reference: string;
  readonly digest: Digest;
  readonly kind: 'image' | 'delta';
  /** The pattern of the rule that applied, and what it asks for in words. */
  readonly rule: string;
  readonly asked: string;
  /** Everybody whose signature can count. */
  readonly allowed: readonly string[];
  /** Whose signatures counted. */
  readonly signers: readonly string[];
  readonly signatures: readonly ExaminedSignature[];
  readonly conditions: Examination['conditions'];
};

export const verifyCommand: Command<VerifyResult> = {
  name: 'verify',
  summary: 'Judge the signatures of an image or a delta, and explain the verdict',
  arguments: 'REF',
  options: {
    ...POLICY_OPTION,
    key: {
      type: 'string',
      value: 'FILE',
      help: 'instead: the one public key that must have signed',
    },
    repository: {
      type: 'string',
      value: 'HOST/REPO',
      help: 'name to look up in the policy (default: that of a docker:// reference)',
    },
    platform: {
      type: 'string',
      value: 'OS/ARCH[/VARIANT]',
      help: 'judge the image of this platform instead of the index that holds it',
    },
    ...REGISTRY_OPTIONS,
  },
  run,
  print: (result, { out }) => {
    explain(result, out);
    out.write(`\naccepted: signed by ${result.signers.join(', ')}\n`);
  },
};

async function run(context: CommandContext): Promise<VerifyResult> {
  const [text, ...rest] = context.positionals;
  if (text === undefined || rest.length > 0) {
    throw new SnapgateError('USAGE', 'name one image or delta', {
      hint: 'For example: snapgate verify docker://registry.example/os:v1 --policy policy.json',
    });
  }
  const policy = await readPolicy(context);
  const repository = repositoryOf(context, text);
  const platform = stringOption(context.options, 'platform');
  const { signal } = context;
  const opened = await openText(context, text);
  try {
    const reader = opened.store;
    const stored =
      platform === undefined
        ? await reader.getManifest(opened.tagOrDigest, signal)
        : await resolveManifest(reader, opened.tagOrDigest, parsePlatform(platform), signal);
    const { digest } = stored;
    const kind = kindOf(stored);
    const now = new Date();
    const request = {
      ...{ reader, repository, digest, kind, policy, now, signal, stored },
      examineAll: true,
    };
    const examination = await examineManifest(request);
    const result = resultOf(opened.name, digest, kind, examination);
    const refusal = refusalOf(examination, `${repository}@${digest}`);
    if (refusal === undefined) return result;
    if (!context.io.json) explain(result, context.io.err);
    throw refusal;
  } finally {
    await opened.close();
  }
}

async function readPolicy({ options }: CommandContext): Promise<Policy> {
  const file = stringOption(options, 'policy');
  const key = stringOption(options, 'key');
  if ((file === undefined) === (key === undefined)) {
    throw new SnapgateError('USAGE', 'give either --policy or --key');
  }
  if (key !== undefined) {
    const signer = {
      ...{ name: key, key: parsePublicKey(await readKeyFile(key), key) },
      ...{ validFrom: undefined, validUntil: undefined },
    };
    const requirement = { signers: [signer], threshold: 1 };
    const conditions = NO_CONDITIONS;
    return { rules: [{ repository: '*', images: requirement, deltas: requirement, conditions }] };
  }
  return readPolicyOption(options);
}

function repositoryOf({ options }: CommandContext, text: string): string {
  const name = policyName(text, stringOption(options, 'repository'));
  if (name !== undefined) return name;
  if (stringOption(options, 'key') !== undefined) return text;
  throw noPolicyName();
}

function resultOf(
  reference: string,
  digest: Digest,
  kind: 'image' | 'delta',
  { rule, requirement, signers, signatures, conditions }: Examination,
): VerifyResult {
  const allowed = signersOf(requirement).map(({ name }) => name);
  return {
    ...{ reference, digest, kind, rule: rule.repository },
    ...{ asked: demandOf(requirement), allowed, signers, signatures, conditions },
  };
}

function explain(result: VerifyResult, out: NodeJS.WritableStream): void {
  const { kind, rule, asked } = result;
  out.write(`${result.reference}\n${kind} ${result.digest}\n`);
  out.write(`rule ${rule}: ${asked}\n`);
  for (const { condition, met, found } of result.conditions) {
    out.write(`${condition}: ${met ? 'met' : 'not met'}: ${found}\n`);
  }
  if (result.signatures.length === 0) return;
  const rows = result.signatures.map(({ form, manifest, signer, counted, reason }) => [
    form,
    manifest?.slice(0, 'sha256:'.length + 12) ?? '',
    signer ?? '',
    counted ? 'counts' : `does not count: ${reason}`,
  ]);
  out.write(`\n${formatTable(['form', 'in', 'signer', 'verdict'], rows)}`);
}
