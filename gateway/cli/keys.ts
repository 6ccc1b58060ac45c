import { type FileHandle, open, rm } from 'node:fs/promises';
import { type Command, type CommandContext, stringOption } from '../../shared/cli/command.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { type PublicKey, parsePublicKey, publicKeyOf } from '../../shared/signing/public-key.ts';
import { decryptKey, generateKey } from '../signing/encrypted-key.ts';
import { PASSWORD_OPTION, readPassword } from './password.ts';
import { readText } from './read-text.ts';

/** Largest key file read, in bytes. */
const MAX_KEY_FILE = 64 * 1024;

/** What the `keys` commands print. */
type KeyResult = {
  readonly algorithm: 'ECDSA P-256';
  /** Base64 of the sha256 of the public key, as bundles name it. */
  readonly hint: string;
  /** PEM. */
  readonly publicKey: string;
  /** The files that hold the key: those made, or the one shown. */
  readonly privateKeyFile?: string;
  readonly publicKeyFile?: string;
};

export const keysGenerateCommand: Command<KeyResult> = {
  name: 'keys generate',
  summary: 'Make a key pair for signing, in the files that cosign reads',
  options: {
    output: {
      type: 'string',
      value: 'PREFIX',
      help: 'write PREFIX.key and PREFIX.pub (default: snapgate)',
    },
    ...PASSWORD_OPTION,
  },
  run: generate,
  print: (result, { out }) => {
    out.write(`private key  ${result.privateKeyFile}\npublic key   ${result.publicKeyFile}\n`);
    out.write(`hint         ${result.hint}\n`);
  },
};

export const keysShowCommand: Command<KeyResult> = {
  name: 'keys show',
  summary: 'Show the public key in a key file, encrypted private key or public',
  arguments: 'FILE',
  options: { ...PASSWORD_OPTION },
  run: show,
  print: (result, { out }) => {
    out.write(`algorithm  ${result.algorithm}\nhint       ${result.hint}\n\n${result.publicKey}`);
  },
};

async function generate(context: CommandContext): Promise<KeyResult> {
  if (context.positionals.length > 0) {
    throw new SnapgateError('USAGE', 'unknown argument', { hint: 'Name the files by --output.' });
  }
  const prefix = stringOption(context.options, 'output') ?? 'snapgate';
  const privateKeyFile = `${prefix}.key`;
  const publicKeyFile = `${prefix}.pub`;
  const password = await readPassword(context, true);
  const { privatePem, publicPem, publicKey } = generateKey(password);
  await createFile(privateKeyFile, privatePem, 0o600);
  try {
    await createFile(publicKeyFile, publicPem, 0o644);
  } catch (thrown) {
    await rm(privateKeyFile, { force: true });
    throw thrown;
  }
  return { ...describe(publicKey), privateKeyFile, publicKeyFile };
}

async function show(context: CommandContext): Promise<KeyResult> {
  const [path, ...rest] = context.positionals;
  if (path === undefined || rest.length > 0) {
    throw new SnapgateError('USAGE', 'name one key file', {
      hint: 'For example: snapgate keys show snapgate.pub',
    });
  }
  const text = await readKeyFile(path);
  if (text.includes('PUBLIC KEY')) {
    return { ...describe(parsePublicKey(text, path)), publicKeyFile: path };
  }
  const key = decryptKey(text, await readPassword(context), path);
  return { ...describe(publicKeyOf(key, path)), privateKeyFile: path };
}

function describe({ hint, pem }: PublicKey): Omit<KeyResult, 'privateKeyFile' | 'publicKeyFile'> {
  return { algorithm: 'ECDSA P-256', hint, publicKey: pem };
}

/** Reads a small text file. Throws CONFIG_INVALID, KEY_INVALID for one that is no key by its size. */
export async function readKeyFile(path: string): Promise<string> {
  const text = await readText(path, 'the key file');
  if (text.length <= MAX_KEY_FILE) return text;
  throw new SnapgateError('KEY_INVALID', 'the file is too large for a key', { where: path });
}

/** Writes a new file and never over another: a key that is lost cannot be made again. */
async function createFile(path: string, text: string, mode: number): Promise<void> {
  let file: FileHandle;
  try {
    file = await open(path, 'wx', mode);
  } catch (cause) {
    throw new SnapgateError('CONFIG_INVALID', 'the key file cannot be made', {
      where: path,
      hint: 'It may exist already. Give another --output, or move the file away.',
      cause,
    });
  }
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}
