import type { Command } from '../../shared/cli/command.ts';
import { formatBytes, formatSeconds, formatTable } from '../../shared/cli/format.ts';
import { type CheckedWay, type CheckReport, checkForUpdate } from '../update/check.ts';
import { withMachine } from './open-machine.ts';
import { atMost } from './options.ts';

export const checkCommand: Command<CheckReport> = {
  name: 'check',
  summary: 'Say whether there is an update, and what each way to it costs',
  options: {},
  async run(context) {
    atMost(context.positionals, 0);
    return withMachine(context, (machine) => checkForUpdate(machine, context.signal));
  },
  print({ update, image, from, to, fullBytes, ways }, { out }) {
    if (!update) {
      out.write(`up to date: ${image} is ${to}\n`);
      return;
    }
    out.write(`${image}\nfrom ${from ?? 'nothing'}\nto   ${to}\n`);
    out.write(`whole image: ${formatBytes(fullBytes)}\n\n`);
    const rows = ways.map((way) => [
      way.steps > 1 ? `${way.steps} deltas` : way.method,
      way.bytes === null ? '' : formatBytes(way.bytes),
      ...timesOf(way),
      way.source?.slice('sha256:'.length, 'sha256:'.length + 12) ?? '',
      way.state,
      way.reason ?? '',
    ]);
    out.write(formatTable(['way', 'bytes', 'download', 'build', 'from', 'state', ''], rows));
  },
};

/** Estimates, as they are read: about so long on the line, and for all that comes after. */
function timesOf({ seconds: { make, download, build } }: CheckedWay): string[] {
  const about = (seconds: number | null) => (seconds === null ? '?' : `~${formatSeconds(seconds)}`);
  return [about(download), make ? `${about(build)}, made in ${about(make)}` : about(build)];
}
