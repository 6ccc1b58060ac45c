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
import { type SignedManifest, signImage } from '../signing/sign-image.ts';
import { openKeyFile } from '../signing/signer.ts';
import { openText, REGISTRY_OPTIONS } from './delta-options.ts';
import { PASSWORD_OPTION, readPassword } from './password.ts';

/** What `sign --json` prints. */
type SignCommandResult = {
  readonly reference: string;
  /** The manifest or index that the reference means. */
  readonly digest: Digest;
  /** The name that the legacy signature carries. */
  readonly identity: string;
  /** Base64 of the sha256 of the public key. */
  readonly keyHint: string;
  readonly manifests: readonly SignedManifest[];
};

export const signCommand: Command<SignCommandResult> = {
  name: 'sign',
  summary: 'Sign an image, all its platforms, or a delta, so that cosign and Podman accept it',
  arguments: 'REF',
  options: {
    key: {
      type: 'string',
      value: 'FILE',
      help: 'encrypted private key, as keys generate makes it',
    },
    ...PASSWORD_OPTION,
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
  const identity = identityOf(context, text);
  const keyFile = requiredOption(context.options, 'key');
  const signer = await openKeyFile(keyFile, await readPassword(context));
  const opened = await openText(context, text);
  try {
    const stored = await opened.store.getManifest(opened.tagOrDigest, context.signal);
    const { signal } = context;
    const options = { signer, dockerReference: identity, signal };
    const manifests = await signImage(opened.store, stored, options);
    await opened.commit();
    const keyHint = signer.publicKey.hint;
    return { reference: opened.name, digest: stored.digest, identity, keyHint, manifests };
  } finally {
    await opened.close();
  }
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
