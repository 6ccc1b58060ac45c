import type { CommandContext, OptionSpec } from '../../shared/cli/command.ts';
import { stringOption } from '../../shared/cli/command.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { readPasswordFile } from '../signing/signer.ts';

/** Longest password that is taken from a terminal, in characters. */
const MAX_PASSWORD = 1024;

/** The option that names a password file. */
export const PASSWORD_OPTION: Readonly<Record<string, OptionSpec>> = {
  'password-file': {
    type: 'string',
    value: 'FILE',
    help: "the key's password (default: COSIGN_PASSWORD, or asked for on a terminal)",
  },
};

/**
 * The password of a key: from the file that an option names, from COSIGN_PASSWORD, or typed on a
 * terminal; `twice` asks for it again. Throws USAGE when there is no way to get one, CONFIG_INVALID.
 */
export async function readPassword(context: CommandContext, twice = false): Promise<string> {
  const file = stringOption(context.options, 'password-file');
  if (file !== undefined) return readPasswordFile(file);
  const given = process.env.COSIGN_PASSWORD;
  if (given !== undefined) return given;
  if (!process.stdin.isTTY) {
    throw new SnapgateError('USAGE', 'no password for the key', {
      hint: 'Give --password-file or set COSIGN_PASSWORD.',
    });
  }
  const password = await prompt('Password of the key: ', context);
  if (twice && (await prompt('The same again: ', context)) !== password) {
    throw new SnapgateError('USAGE', 'the two passwords differ');
  }
  return password;
}

/** Reads one line from the terminal without showing it. */
async function prompt(question: string, { io, signal }: CommandContext): Promise<string> {
  const { stdin } = process;
  io.err.write(question);
  stdin.setRawMode(true);
  stdin.setEncoding('utf8');
  try {
    let typed = '';
    for await (const chunk of stdin.iterator({ destroyOnReturn: false })) {
      for (const char of chunk as string) {
        if (char === '\r' || char === '\n') return typed;
        if (char === '\u0003' || char === '\u0004' || signal.aborted) {
          throw new SnapgateError('CANCELLED', 'cancelled');
        }
        typed = char === '\u007f' || char === '\b' ? typed.slice(0, -1) : typed + char;
        if (typed.length > MAX_PASSWORD) throw new SnapgateError('USAGE', 'password is too long');
      }
    }
    throw new SnapgateError('CANCELLED', 'the terminal was closed');
  } finally {
    stdin.setRawMode(false);
    stdin.pause();
    io.err.write('\n');
  }
}
