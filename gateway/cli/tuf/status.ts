import type { Command } from '../../../shared/cli/command.ts';
import { openFolder } from './options.ts';
import { printReport, reportOn, type TufReport } from './report.ts';

/** `snapgate tuf status`: what is published, what is staged, and what to do next. */
export const tufStatusCommand: Command<TufReport> = {
  name: 'tuf status',
  summary: 'Show the roles, keys and statements of a TUF repository, and what to do next',
  arguments: 'DIR',
  options: {},
  run: async (context) => reportOn(await openFolder(context), []),
  print: printReport,
};
