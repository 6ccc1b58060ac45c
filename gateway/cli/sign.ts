import {
  type Command,
  type CommandContext,
  requiredOption,
  stringOption,
} from '../../shared/cli/command.ts';
import { formatTable } from '../../shared/cli/format.ts';
import type { Digest } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { parseReference, parseRegistryReference } from '../../shared/oci/reference.ts';
import type { KeylessSigner } from '../signing/keyless.ts';
import { type SignedManifest, signImage } from '../signing/sign-image.ts';
import type { SignOptions } from '../signing/sign-manifest.ts';
import { readPasswordFile } from '../signing/signer.ts';
import { openText, REGISTRY_OPTIONS } from './delta-options.ts';
import { KEY_OPTION, openKeyOption } from './key-option.ts';
import { PASSWORD_OPTION } from './password.ts';

/** What `sign --json` prints. */
type SignCommandResult = {
  readonly reference: string;
  /** The manifest or index that the reference means. */
  readonly digest: Digest;
  /** The name that the legacy signature carries, where there is one. */
  readonly identity?: string;
  /** Base64 of the sha256 of the public key, where there is one. */
  readonly keyHint?: string;
  readonly manifests: readonly SignedManifest[];
};

export const signCommand: Command<SignCommandResult> = {
  name: 'sign',
  summary: 'Sign an image, all its platforms, or a delta, so that cosign and Podman accept it',
  arguments: 'REF',
  options: {
    ...KEY_OPTION,
    ...PASSWORD_OPTION,
    'identity-token-file': {
      type: 'string',
      value: 'FILE',
      help: 'sign without a key, as the owner of this OpenID Connect token',
    },
    fulcio: { type: 'string', value: 'URL', help: 'certificate authority for that' },
    rekor: { type: 'string', value: 'URL', help: 'transparency log for that (default: none)' },
    'rekor-version': { type: 'string', value: '1|2', help: "the log's API (default: 1)" },
    'timestamp-authority': {
      type: 'string',
      value: 'URL',
      help: 'timestamp authority for that (default: none)',
    },
    identity: {
      type: 'string',
      value: 'HOST/REPO[:TAG]',
      help: 'name that the signature carries (default: that of a docker:// reference)',
    },
    ...REGISTRY_OPTIONS,
  },
  run,
  print: (result, { out }) => {
    out.write(`${result.reference}\n\n`);
    const rows = result.manifests.map(({ digest, platform, bundle, legacy }) => [
      digest,
      platform ?? '',
      bundle,
      legacy,
    ]);
    out.write(formatTable(['manifest', 'platform', 'bundle', 'legacy'], rows));
  },
};

async function run(context: CommandContext): Promise<SignCommandResult> {
  const [text, ...rest] = context.positionals;
  if (text === undefined || rest.length > 0) {
    throw new SnapgateError('USAGE', 'name one image', {
      hint: 'For example: snapgate sign docker://registry.example/os:v1 --key snapgate.key',
    });
  }
  const isKeyless = stringOption(context.options, 'identity-token-file') !== undefined;
  if (isKeyless) return sign(context, text, { signer: keylessSigner(context) });
  const identity = identityOf(context, text);
  const { signer, close } = await openKeyOption(context);
  try {
    return await sign(context, text, { signer, identity, keyHint: signer.publicKey.hint });
  } finally {
    close();
  }
}

type With = Pick<SignCommandResult, 'identity' | 'keyHint'> & Pick<SignOptions, 'signer'>;

async function sign(
  context: CommandContext,
  text: string,
  { signer, ...shown }: With,
): Promise<SignCommandResult> {
  const opened = await openText(context, text);
  try {
    const { signal } = context;
    const stored = await opened.store.getManifest(opened.tagOrDigest, signal);
    const options = { signer, dockerReference: shown.identity ?? '', signal };
    const manifests = await signImage(opened.store, stored, options);
    await opened.commit();
    return { reference: opened.name, digest: stored.digest, ...shown, manifests };
  } finally {
    await opened.close();
  }
}

function keylessSigner({ options }: CommandContext): KeylessSigner {
  const url = (name: string) => {
    const given = stringOption(options, name);
    const parsed = given === undefined ? undefined : URL.parse(given);
    if (parsed === null) throw new SnapgateError('USAGE', `--${name}: not a URL`);
    return parsed;
  };
  const [certificateAuthority, log, timestampAuthority] = [
    ...[url('fulcio'), url('rekor'), url('timestamp-authority')],
  ];
  if (certificateAuthority === undefined || (log ?? timestampAuthority) === undefined) {
    throw new SnapgateError('USAGE', 'give --fulcio, and --rekor or --timestamp-authority', {
      hint: 'Without a log or a timestamp nothing says that the certificate was valid.',
    });
  }
  const version = stringOption(options, 'rekor-version') === '2' ? 2 : 1;
  const file = requiredOption(options, 'identity-token-file');
  return {
    certificateAuthority,
    ...(log && { transparencyLog: { url: log, version } }),
    ...(timestampAuthority && { timestampAuthority }),
    identityToken: async () => (await readPasswordFile(file)).trim(),
  };
}

/** Verifiers compare this name with the one that the image was asked for by. */
function identityOf(context: CommandContext, text: string): string {
  const given = stringOption(context.options, 'identity');
  if (given !== undefined) {
    parseRegistryReference(given);
    return given;
  }
  const ref = parseReference(text);
  if (ref.kind !== 'docker') {
    throw new SnapgateError('USAGE', 'a folder or archive has no name to sign', {
      hint: 'Give --identity HOST/REPO:TAG, the name that machines will know the image by.',
    });
  }
  const tag = ref.digest === undefined ? (ref.tag ?? 'latest') : ref.tag;
  return `${ref.registry}/${ref.repository}${tag === undefined ? '' : `:${tag}`}`;
}
