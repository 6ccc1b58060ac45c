import type { Command } from '../../shared/cli/command.ts';
import { formatBytes, formatSeconds } from '../../shared/cli/format.ts';
import type { UpdateReport } from '../update/report.ts';
import { update } from '../update/update.ts';
import { withMachine } from './open-machine.ts';
import { atMost } from './options.ts';

export const updateCommand: Command<UpdateReport> = {
  name: 'update',
  summary: 'Bring the machine to what its tag names, by the smallest way',
  options: {
    'download-only': { type: 'boolean', help: 'stop when all is downloaded' },
    full: { type: 'boolean', help: 'take the whole image, also where a delta would do' },
    automatic: { type: 'boolean', help: 'for timers: do not try again what has failed here' },
  },
  async run(context) {
    atMost(context.positionals, 0);
    const { options, signal } = context;
    return withMachine(context, (machine) =>
      update(machine, {
        downloadOnly: options['download-only'] === true,
        full: options.full === true,
        automatic: options.automatic === true,
        signal,
      }),
    );
  },
  print(report, { out }) {
    const { from, to, method, deployment, fallbackReason } = report;
    if (from === to) {
      out.write(`up to date: ${to}\n`);
      return;
    }
    const how = { delta: 'by delta', full: 'whole', none: 'held already' }[method];
    const whole = method === 'delta' ? ` of ${formatBytes(report.fullBytes)}` : '';
    out.write(`${to} ${how}: ${formatBytes(report.bytesDownloaded)}${whole} downloaded, `);
    out.write(`${formatBytes(report.bytesWritten)} written, ${formatSeconds(report.seconds)}\n`);
    if (fallbackReason !== null) out.write(`why not smaller: ${fallbackReason}\n`);
    if (deployment !== null) out.write(`boots next: ${deployment}\n`);
  },
};
