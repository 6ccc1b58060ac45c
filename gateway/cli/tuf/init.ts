import type { Command, CommandContext } from '../../../shared/cli/command.ts';
import { initRepository, type RoleSetup } from '../../tuf/edit.ts';
import { TufFolder } from '../../tuf/folder.ts';
import { DAYS_OPTION, editTime, folderName, numberOption, publicKeys } from './options.ts';
import { printSteps, reportOn, type TufReport } from './report.ts';

const keyOption = (help: string) =>
  ({ type: 'string', required: true, value: 'FILE', multiple: true, help }) as const;
const countOption = (help: string) => ({ type: 'string', value: 'N', help }) as const;

/** `snapgate tuf init`: makes a repository out of the public keys of its roles. */
export const tufInitCommand: Command<TufReport> = {
  name: 'tuf init',
  summary: 'Make a TUF repository, in which signed statements say what a tag means',
  arguments: 'DIR',
  options: {
    'root-key': keyOption(
      'public key, as keys generate makes it, that may sign roots; may be repeated',
    ),
    'root-threshold': countOption('how many of them must sign (default: most of them)'),
    'targets-key': keyOption('public key that may state what tags mean; may be repeated'),
    'targets-threshold': countOption('how many of them must sign (default: 1)'),
    'snapshot-key': keyOption('public key of the gateway for snapshots'),
    'timestamp-key': keyOption('public key of the gateway for timestamps'),
    ...DAYS_OPTION,
  },
  run,
  print: printSteps,
};

async function run(context: CommandContext): Promise<TufReport> {
  const dir = folderName(context.positionals);
  const setup = {
    root: await roleSetup(context, 'root', (count) => Math.floor(count / 2) + 1),
    targets: await roleSetup(context, 'targets', () => 1),
    snapshot: await roleSetup(context, 'snapshot', () => 1),
    timestamp: await roleSetup(context, 'timestamp', () => 1),
  };
  const folder = await TufFolder.create(dir);
  await initRepository(folder, setup, editTime(context));
  const { root, targets } = setup;
  return reportOn(folder, [
    `made a TUF repository in ${dir}`,
    `root: ${root.threshold} of ${root.keys.length} keys; targets: ${targets.threshold} of ${targets.keys.length}`,
  ]);
}

async function roleSetup(
  context: CommandContext,
  role: string,
  usual: (count: number) => number,
): Promise<RoleSetup> {
  const keys = await publicKeys(context, `${role}-key`);
  const given = numberOption(context, `${role}-threshold`);
  return { keys, threshold: given ?? usual(keys.length) };
}
