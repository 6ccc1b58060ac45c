import { type Command, type CommandContext, requiredOption } from '../../../shared/cli/command.ts';
import { SnapgateError } from '../../../shared/errors.ts';
import { isRepositoryPattern } from '../../../shared/policy/repository-pattern.ts';
import { delegate } from '../../tuf/edit.ts';
import { readState } from '../../tuf/state.ts';
import { DAYS_OPTION, editTime, numberOption, openFolder, publicKeys } from './options.ts';
import { printSteps, reportOn, type TufReport } from './report.ts';

/** `snapgate tuf delegate`: lets other keys speak of some repositories. */
export const tufDelegateCommand: Command<TufReport> = {
  name: 'tuf delegate',
  summary: 'Let a role with keys of its own state what the tags of some repositories mean',
  arguments: 'DIR',
  options: {
    role: { type: 'string', required: true, value: 'ROLE', help: 'name of the role' },
    repositories: {
      ...{ type: 'string', required: true, value: 'PATTERN' },
      help: 'a repository, a prefix of it followed by /*, or *',
    },
    key: {
      ...{ type: 'string', required: true, value: 'FILE', multiple: true },
      help: 'public key that may sign for it; may be repeated',
    },
    threshold: { type: 'string', value: 'N', help: 'how many must sign (default: 1)' },
    ...DAYS_OPTION,
  },
  run,
  print: printSteps,
};

async function run(context: CommandContext): Promise<TufReport> {
  const folder = await openFolder(context);
  const role = requiredOption(context.options, 'role');
  const pattern = requiredOption(context.options, 'repositories');
  if (!isRepositoryPattern(pattern)) {
    throw new SnapgateError('USAGE', `not a pattern of repositories: ${pattern}`, {
      hint: 'Write os/server, os/* or *, without the registry.',
    });
  }
  const keys = await publicKeys(context, 'key');
  const threshold = numberOption(context, 'threshold') ?? 1;
  const asked = { pattern, keys, threshold };
  await delegate(folder, await readState(folder), role, asked, editTime(context));
  return reportOn(folder, [`${role} is to speak of ${pattern}`]);
}
