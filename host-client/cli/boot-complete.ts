import type { Command } from '../../shared/cli/command.ts';
import { toSnapgateError } from '../../shared/errors.ts';
import { leaveFailed } from '../deploy/roll-back.ts';
import { type BootReport, completeBoot } from '../health/complete-boot.ts';
import { run } from '../system/run.ts';
import { changingMachine } from './open-machine.ts';
import { atMost } from './options.ts';

export const bootCompleteCommand: Command<BootReport> = {
  name: 'boot-complete',
  summary: 'Check that what was booted works, and keep it',
  options: {
    reboot: {
      type: 'boolean',
      help: 'when a version that is not proved yet does not work, boot again, until its tries are used up; where nothing counts tries, go back at once',
    },
  },
  async run(context) {
    atMost(context.positionals, 0);
    return changingMachine(context, (machine) =>
      machine.state.exclusively(async () => {
        try {
          return await completeBoot(machine, context.signal);
        } catch (thrown) {
          const { message } = toSnapgateError(thrown);
          const again = context.options.reboot && (await leaveFailed(machine.deployments, message));
          if (again) await run('systemctl', ['reboot']);
          throw thrown;
        }
      }, context.signal),
    );
  },
  print(report, { out }) {
    for (const { path, passed, reason } of report.checks) {
      out.write(
        `${passed ? 'passed' : 'failed'}  ${path}${reason === undefined ? '' : `: ${reason}`}\n`,
      );
    }
    for (const id of report.failed) out.write(`deployment ${id} did not work and was left\n`);
    if (report.deployment === null) out.write('what runs is no deployment\n');
    else out.write(`deployment ${report.deployment} is good\n`);
  },
};
