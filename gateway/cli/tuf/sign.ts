import type { Command, CommandContext } from '../../../shared/cli/command.ts';
import { tufKey } from '../../../shared/tuf/metadata.ts';
import { signStaged } from '../../tuf/sign.ts';
import { readState } from '../../tuf/state.ts';
import { KEY_OPTIONS, openFolder, openSignerOption } from './options.ts';
import { printSteps, reportOn, type TufReport } from './report.ts';

/** `snapgate tuf sign`: adds the signature of one key, on whichever machine that key is. */
export const tufSignCommand: Command<TufReport> = {
  name: 'tuf sign',
  summary: 'Sign what is staged and what this key may sign',
  arguments: 'DIR',
  options: KEY_OPTIONS,
  run,
  print: printSteps,
};

async function run(context: CommandContext): Promise<TufReport> {
  const folder = await openFolder(context);
  const { signer, close } = await openSignerOption(context);
  try {
    const signed = await signStaged(folder, await readState(folder), signer);
    const { keyID } = tufKey(signer.publicKey);
    return await reportOn(folder, [`signed ${signed.join(', ')} with key ${keyID.slice(0, 12)}`]);
  } finally {
    close();
  }
}
