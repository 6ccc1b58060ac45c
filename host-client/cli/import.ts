import type { Command } from '../../shared/cli/command.ts';
import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import { withBundle } from '../update/bundle-source.ts';
import type { Machine } from '../update/machine.ts';
import type { UpdateReport } from '../update/report.ts';
import { update } from '../update/update.ts';
import { changingMachine } from './open-machine.ts';
import { updateCommand } from './update.ts';

export const importCommand: Command<UpdateReport> = {
  name: 'import',
  summary: 'Update from a file that was carried here, verified like any other update',
  arguments: 'FILE',
  options: {},
  async run(context) {
    const [file, ...rest] = context.positionals;
    if (file === undefined || rest.length > 0) {
      throw new SnapgateError('USAGE', 'name one file', {
        hint: 'For example: snaphost import /media/stick/update.tar',
      });
    }
    return changingMachine(context, (machine) =>
      fromBundle(machine, file, (offline) => update(offline, { signal: context.signal })),
    );
  },
  ...(updateCommand.print === undefined ? {} : { print: updateCommand.print }),
};

/** Lets `action` work on a machine whose source of updates is a file. */
export async function fromBundle<T>(
  machine: Machine,
  file: string,
  action: (machine: Machine) => Promise<T>,
): Promise<T> {
  try {
    return await withBundle(file, machine, (connect) => action({ ...machine, connect }));
  } catch (thrown) {
    const error = toSnapgateError(thrown);
    if (error.code !== 'BLOB_UNKNOWN') throw error;
    throw new SnapgateError('BLOB_UNKNOWN', 'the file lacks what this machine needs', {
      where: file,
      hint: 'Export a bundle from an image that this machine holds, or a whole one.',
      cause: error,
    });
  }
}
