import type { Command, CommandIo } from '../../shared/cli/command.ts';
import type { Deployment } from '../deploy/deployment.ts';
import { channelName } from '../update/machine.ts';
import type { Attempt } from '../update/report.ts';
import { withMachine } from './open-machine.ts';
import { atMost } from './options.ts';

/** What `status --json` prints. */
export type StatusReport = {
  /** Version of this object's form. */
  readonly version: 1;
  /** The image that the machine follows, with its tag. */
  readonly image: string;
  readonly gateways: readonly string[];
  /** What the machine runs; null when that is no deployment. */
  readonly running: Deployment | null;
  /** What it boots next. */
  readonly next: Deployment | null;
  /** What a rollback leads to. */
  readonly rollback: Deployment | null;
  /** Whether a reboot would change what runs. */
  readonly rebootNeeded: boolean;
  readonly lastAttempt: Attempt | null;
};

export const statusCommand: Command<StatusReport> = {
  name: 'status',
  summary: 'Say what the machine runs, what it boots next, and how the last update went',
  options: {},
  async run(context) {
    atMost(context.positionals, 0);
    return withMachine(context, async ({ config, deployments, state }) => {
      const roles = await deployments.roles(await deployments.list());
      const { running, next, rollback } = roles;
      return {
        version: 1,
        image: channelName(config),
        gateways: config.gateways.map((url) => url.origin),
        ...{ running: running ?? null, next: next ?? null, rollback: rollback ?? null },
        rebootNeeded: next !== undefined && running?.id !== next.id,
        lastAttempt: (await state.lastAttempt()) ?? null,
      };
    });
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
