import { type Command, stringOption } from '../../shared/cli/command.ts';
import { formatBytes } from '../../shared/cli/format.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { collectGarbage, type GcReport } from '../update/collect-garbage.ts';
import { changingMachine } from './open-machine.ts';
import { atMost } from './options.ts';

export const gcCommand: Command<GcReport> = {
  name: 'gc',
  summary: 'Remove deployments, images and downloads that are not needed',
  options: {
    keep: {
      type: 'string',
      value: 'N',
      help: 'deployments to keep besides those that run, boot next or are gone back to',
    },
  },
  async run(context) {
    atMost(context.positionals, 0);
    const text = stringOption(context.options, 'keep');
    if (text !== undefined && !/^\d{1,6}$/.test(text)) {
      throw new SnapgateError('USAGE', `--keep takes a number, not ${text}`);
    }
    return changingMachine(context, (machine) => {
      const keep = text === undefined ? machine.config.keep : Number(text);
      return machine.state.exclusively(() => collectGarbage(machine, keep), context.signal);
    });
  },
  print(report, { out }) {
    for (const id of report.removedDeployments) out.write(`removed deployment ${id}\n`);
    for (const image of report.removedImages) out.write(`removed image ${image}\n`);
    if (report.downloadBytes > 0) {
      out.write(`removed ${formatBytes(report.downloadBytes)} of downloads\n`);
    }
    out.write(`${formatBytes(report.freedBytes)} became free\n`);
  },
};
