import type { Command, CommandIo } from '../../shared/cli/command.ts';
import type { KnownChannel } from '../channel/known-channel.ts';
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
  if (report.channel !== null) out.write(`channel:   ${describeChannel(report.channel)}\n`);
  const { lastAttempt } = report;
  if (lastAttempt === null) return;
  const { time, result, error } = lastAttempt;
  const why = error === undefined ? '' : ` (${error.code}: ${error.message})`;
  out.write(`last try:  ${time} ${result}${why}\n`);
}

function describeChannel(channel: KnownChannel): string {
  const { path, root, digest, version, role, statement, confirmed, expires, floor } = channel;
  if (digest === null) return `${path}, no statement yet (root ${root})`;
  return [
    `${path} means ${short(digest)}${version === null ? '' : `, version ${version}`}`,
    `stated by ${role}, statement ${statement}`,
    `confirmed at ${confirmed ?? 'a time that it does not say'}, expires ${expires}`,
    floor === null ? 'no floor yet' : `floor: statement ${floor}`,
  ].join('\n           ');
}

const short = (digest: string) => digest.slice(0, 'sha256:'.length + 12);

function describe(deployment: Deployment | null): string {
  if (deployment === null) return 'no deployment';
  const { id, manifest, state, created } = deployment;
  return `${id} ${state}, ${short(manifest)}, made ${created}`;
}
