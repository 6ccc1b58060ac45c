import type { Command } from '../../shared/cli/command.ts';
import { formatBytes, formatSeconds } from '../../shared/cli/format.ts';
import type { UpdateReport } from '../update/report.ts';
import { update } from '../update/update.ts';
import { isOpen, rebootWhenAllowed, requireOpen } from '../update/windows.ts';
import { changingMachine } from './open-machine.ts';
import { atMost } from './options.ts';

export const updateCommand: Command<UpdateReport> = {
  name: 'update',
  summary: 'Bring the machine to what its tag names, by the smallest way',
  options: {
    'download-only': { type: 'boolean', help: 'stop when all is downloaded' },
    full: { type: 'boolean', help: 'take the whole image, also where a delta would do' },
    automatic: {
      type: 'boolean',
      help: 'for timers: keep to the windows, do not try again what has failed here',
    },
    reboot: { type: 'boolean', help: 'boot what was installed, with --automatic in its window' },
  },
  async run(context) {
    atMost(context.positionals, 0);
    const { options, signal } = context;
    const automatic = options.automatic === true;
    return changingMachine(context, async (machine) => {
      const { line } = machine.config;
      if (automatic) requireOpen('a download', line.downloadWindow);
      const isApplied = !automatic || isOpen(line.applyWindow);
      const report = await update(machine, {
        downloadOnly: options['download-only'] === true || !isApplied,
        full: options.full === true,
        ...{ automatic, signal },
      });
      if (options.reboot === true) await rebootWhenAllowed(machine, automatic, signal);
      return report;
    });
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
