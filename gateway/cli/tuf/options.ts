import { type CommandContext, type OptionSpec, stringOption } from '../../../shared/cli/command.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { isRepositoryName, isTag } from '../../../shared/oci/reference.ts';
import { type PublicKey, parsePublicKey } from '../../../shared/signing/public-key.ts';
import { openPkcs11 } from '../../signing/pkcs11.ts';
import { readPasswordFile } from '../../signing/signer.ts';
import type { EditTime } from '../../tuf/edit.ts';
import { TufFolder } from '../../tuf/folder.ts';
import { KEY_OPTION, type OpenedKey, openKeyOption } from '../key-option.ts';
import { readKeyFile } from '../keys.ts';
import { PASSWORD_OPTION } from '../password.ts';

/** The option that says for how long what is made holds. */
export const DAYS_OPTION: Readonly<Record<string, OptionSpec>> = {
  days: { type: 'string', value: 'N', help: 'days until it ends (default: root 365, others 90)' },
};

/** Options that name one private key. */
export const KEY_OPTIONS: Readonly<Record<string, OptionSpec>> = {
  ...KEY_OPTION,
  ...PASSWORD_OPTION,
  'pkcs11-module': { type: 'string', value: 'FILE', help: 'instead: the module of a token' },
  'pkcs11-token': { type: 'string', value: 'LABEL', help: 'label of the token' },
  'pkcs11-key': { type: 'string', value: 'LABEL', help: 'label of the key pair in it' },
  'pkcs11-pin-file': { type: 'string', value: 'FILE', help: 'file that holds its PIN' },
};

/** Opens the repository that a command names first. Throws USAGE, METADATA_MISSING. */
export async function openFolder({ positionals }: CommandContext, most = 1): Promise<TufFolder> {
  return TufFolder.open(folderName(positionals, most));
}

/** The folder that a command names first. Throws USAGE. */
export function folderName(positionals: readonly string[], most = 1): string {
  const [dir, ...rest] = positionals;
  if (dir !== undefined && rest.length < most) return dir;
  const message =
    dir === undefined ? 'name the folder of the TUF repository' : 'too many arguments';
  throw new SnapgateError('USAGE', message);
}

/** The private key that the options name. Throws USAGE, KEY_INVALID, CONFIG_INVALID. */
export async function openSignerOption(context: CommandContext): Promise<OpenedKey> {
  const { options } = context;
  const file = stringOption(options, 'key');
  const module = stringOption(options, 'pkcs11-module');
  if (file !== undefined && module === undefined) {
    return openKeyOption(context);
  }
  const token = stringOption(options, 'pkcs11-token');
  const key = stringOption(options, 'pkcs11-key');
  const pinFile = stringOption(options, 'pkcs11-pin-file');
  if (file !== undefined || !module || !token || !key || !pinFile) {
    throw new SnapgateError('USAGE', 'name one key to sign with', {
      hint: 'Give --key FILE, or all of --pkcs11-module, -token, -key and -pin-file.',
    });
  }
  const signer = openPkcs11({ module, token, key, pin: await readPasswordFile(pinFile) });
  return { signer, close: () => signer.close() };
}

/** Public keys in the files that an option names, which may be given several times. */
export async function publicKeys(context: CommandContext, option: string): Promise<PublicKey[]> {
  const files = context.options[option];
  const keys: PublicKey[] = [];
  for (const file of Array.isArray(files) ? files : []) {
    keys.push(parsePublicKey(await readKeyFile(file), file));
  }
  return keys;
}

/** A whole number that an option gives. Throws USAGE. */
export function numberOption({ options }: CommandContext, name: string): number | undefined {
  const text = stringOption(options, name);
  if (text === undefined) return undefined;
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new SnapgateError('USAGE', `--${name} must be a whole number from 1 on`);
}

/** Now, and how long what is made holds. Throws USAGE. */
export function editTime(context: CommandContext): EditTime {
  return { now: new Date(), days: numberOption(context, 'days') };
}

/** Repository and tag out of `REPOSITORY:TAG`. Throws USAGE. */
export function parseChannel(text: string): { repository: string; tag: string } {
  const colon = text.lastIndexOf(':');
  const [repository, tag] = [text.slice(0, colon), text.slice(colon + 1)];
  if (colon > 0 && isRepositoryName(repository) && isTag(tag)) return { repository, tag };
  throw new SnapgateError('USAGE', `not REPOSITORY:TAG: ${text}`, {
    hint: 'Write it without the registry, for example os/server:stable.',
  });
}
