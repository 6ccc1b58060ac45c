import { type Command, type CommandContext, requiredOption } from '../../../shared/cli/command.ts';
import { rotate } from '../../tuf/rotate.ts';
import { readState } from '../../tuf/state.ts';
import { DAYS_OPTION, editTime, numberOption, openFolder, publicKeys } from './options.ts';
import { printSteps, reportOn, type TufReport } from './report.ts';

/** `snapgate tuf rotate`: gives a role other keys, or renews it. */
export const tufRotateCommand: Command<TufReport> = {
  name: 'tuf rotate',
  summary: 'Give a role new keys, revoke old ones, or renew it before it ends',
  arguments: 'DIR',
  options: {
    role: {
      type: 'string',
      required: true,
      value: 'ROLE',
      help: 'root, targets, snapshot, timestamp or another',
    },
    'add-key': {
      ...{ type: 'string', value: 'FILE', multiple: true },
      help: 'public key that may sign from now on; may be repeated',
    },
    'remove-key': {
      ...{ type: 'string', value: 'ID', multiple: true },
      help: 'id of a key that may not any more, or its first 8 digits or more; may be repeated',
    },
    threshold: { type: 'string', value: 'N', help: 'how many must sign (default: as before)' },
    ...DAYS_OPTION,
  },
  run,
  print: printSteps,
};

async function run(context: CommandContext): Promise<TufReport> {
  const folder = await openFolder(context);
  const role = requiredOption(context.options, 'role');
  const remove = context.options['remove-key'];
  const rotation = {
    add: await publicKeys(context, 'add-key'),
    remove: Array.isArray(remove) ? remove : [],
    threshold: numberOption(context, 'threshold'),
  };
  await rotate(folder, await readState(folder), role, rotation, editTime(context));
  const online = role === 'snapshot' || role === 'timestamp';
  const gateway = online ? ['Give the gateway the new key when this is published.'] : [];
  return reportOn(folder, [`a new version for ${role} is staged`, ...gateway]);
}
