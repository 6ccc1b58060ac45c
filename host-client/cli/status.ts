import type { Command, CommandIo } from '../../shared/cli/command.ts';
import type { Deployment } from '../deploy/deployment.ts';
import { machineStatus, type StatusReport } from '../update/status.ts';
import { withMachine } from './open-machine.ts';
import { atMost } from './options.ts';

export const statusCommand: Command<StatusReport> = {
  name: 'status',
  summary: 'Say what the machine runs, what it boots next, and how the last update went',
  options: {},
  async run(context) {
    atMost(context.positionals, 0);
    return withMachine(context, machineStatus);
  },
  print,
};

function print(report: StatusReport, { out }: CommandIo): void {
  out.write(`image:     ${report.image}\n`);
  out.write(`running:   ${describe(report.running)}\n`);
  out.write(`next boot: ${describe(report.next)}\n`);
  out.write(`rollback:  ${describe(report.rollback)}\n`);
  const { lastAttempt } = report;
  if (lastAttempt === null) return;
  const { time, result, error } = lastAttempt;
  const why = error === undefined ? '' : ` (${error.code}: ${error.message})`;
  out.write(`last try:  ${time} ${result}${why}\n`);
}

function describe(deployment: Deployment | null): string {
  if (deployment === null) return 'no deployment';
  const { id, manifest, state, created } = deployment;
  return `${id} ${state}, ${manifest.slice(0, 'sha256:'.length + 12)}, made ${created}`;
}
