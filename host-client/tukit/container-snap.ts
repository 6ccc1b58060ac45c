import {
  type Command,
  type CommandContext,
  type OptionSpec,
  type Program,
  stringOption,
} from '../../shared/cli/command.ts';
import { digestHex } from '../../shared/digest.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { fromBundle } from '../cli/import.ts';
import { withMachine } from '../cli/open-machine.ts';
import { SETTING_OPTIONS } from '../cli/options.ts';
import { pullCommand } from '../cli/pull.ts';
import type { Machine } from '../update/machine.ts';
import { pullImage } from '../update/pull.ts';
import { VERSION } from '../version.ts';
import { Snapshots } from './snapshots.ts';

type Action = (snapshots: Snapshots, context: CommandContext) => Promise<readonly string[]>;

/** What a command takes besides its name. */
type Shape = {
  readonly options?: Readonly<Record<string, OptionSpec>>;
  /** Name of the one positional argument, when there is one. */
  readonly argument?: string;
  /** Whether it only looks; what changes something waits for nobody and keeps others out. */
  readonly reads?: boolean;
};

/** A command whose output is exactly the lines that its action gives. */
function command(name: string, summary: string, shape: Shape, action: Action): Command {
  const { options = {}, argument, reads = false } = shape;
  return {
    ...{ name, summary, options },
    ...(argument === undefined ? {} : { arguments: argument }),
    async run(context) {
      const wanted = argument === undefined ? 0 : 1;
      if (context.positionals.length !== wanted) {
        throw new SnapgateError('USAGE', `${name} takes ${argument ?? 'no argument'}`, {
          hint: `Run container-snap ${name} --help.`,
        });
      }
      const act = async (machine: Machine) => action(new Snapshots(machine), context);
      const changing = (machine: Machine) =>
        machine.state.exclusively(async () => {
          await machine.deployments.recover();
          return act(machine);
        }, context.signal);
      // tukit reads an id from whatever is printed: no word of progress.
      const quiet = { ...context, io: { ...context.io, json: true } };
      return { lines: await withMachine(quiet, reads ? act : changing) };
    },
    print(result, { out }) {
      for (const line of (result as { lines: readonly string[] }).lines) out.write(`${line}\n`);
    },
  };
}

const id = ({ positionals }: CommandContext): string => positionals[0] ?? '';

const READS = { reads: true } as const;
const OF_ONE = { argument: 'ID' } as const;

async function setReadOnly(snapshots: Snapshots, context: CommandContext): Promise<string[]> {
  const [on, off] = [context.options.readonly === true, context.options['no-readonly'] === true];
  if (on === off) {
    throw new SnapgateError('USAGE', 'say one of --readonly and --no-readonly');
  }
  await snapshots.setReadOnly(id(context), on);
  return [];
}

async function remove(snapshots: Snapshots, { options }: CommandContext): Promise<string[]> {
  const [which, url] = [stringOption(options, 'id'), stringOption(options, 'url')];
  if (url !== undefined && which === undefined) await snapshots.removeNamed(url);
  else if (which !== undefined && url === undefined) await snapshots.remove(which);
  else throw new SnapgateError('USAGE', 'say one of --id and --url');
  return [];
}

/** Prints nothing on standard output, as scripts that replace container-snap expect. */
const pull: Command = {
  name: 'pull',
  summary: pullCommand.summary,
  arguments: 'URL',
  options: pullCommand.options,
  async run(context) {
    if (context.positionals.length !== 1) {
      throw new SnapgateError('USAGE', 'pull takes the name of one image');
    }
    return pullCommand.run(context);
  },
};

/** As container-snap spells it: a file, with the name of its transport before it or not. */
const load: Command = {
  name: 'load',
  summary: "Bring an image from a file into Podman's storage, verified",
  arguments: '[oci-archive:]FILE',
  options: { input: { type: 'string', short: 'i', value: 'FILE', help: 'the file' } },
  async run(context) {
    const named = [stringOption(context.options, 'input') ?? [], context.positionals].flat();
    const [file] = named;
    if (file === undefined || named.length > 1) {
      throw new SnapgateError('USAGE', 'load takes one file');
    }
    const path = file.replace(/^(oci-archive|file):/, '');
    return withMachine(context, (machine) =>
      fromBundle(machine, path, (offline) =>
        pullImage(offline, { again: true, signal: context.signal }),
      ),
    );
  },
};

/**
 * The program as tukit's ContainerSnap backend calls it: `container-snap COMMAND`, through a shell,
 * taking its whole output, trimmed, as the answer.
 */
export const containerSnap: Program = {
  name: 'container-snap',
  version: VERSION,
  summary: 'snapshots of operating system images, for tukit; a face of snaphost',
  options: SETTING_OPTIONS,
  commands: [
    command('init', 'Make ready what is needed', {}, async () => []),
    command('get-current', 'Print what runs', READS, async (all) => [await all.current()]),
    command('get-default', 'Print what boots next', READS, async (all) => [await all.default()]),
    command('list-snapshots', 'List images and snapshots', READS, async (all) => [
      '# snapshot-id,ro',
      ...(await all.list()).map((one) => `${one.id},${one.readOnly}`),
    ]),
    command('list-images', "List the images in Podman's storage", READS, async (all) =>
      (await all.images()).map(
        ({ config, created = '', names }) =>
          `${digestHex(config)},${created},${names[0] ?? 'unknown-name'}`,
      ),
    ),
    command('create-snapshot', 'Make a writable snapshot', OF_ONE, async (all, context) => [
      await all.create(id(context)),
    ]),
    command('get-root', 'Print the folder', { ...OF_ONE, ...READS }, async (all, context) => [
      await all.root(id(context)),
    ]),
    command(
      'get-readonly-state',
      'Print whether a snapshot cannot be written to',
      { ...OF_ONE, ...READS },
      async (all, context) => [String(await all.isReadOnly(id(context)))],
    ),
    command(
      'set-readonly-state',
      'Let a snapshot be written to or not',
      {
        ...OF_ONE,
        options: {
          readonly: { type: 'boolean', help: 'it cannot be written to any more' },
          'no-readonly': { type: 'boolean', help: 'it can be written to' },
        },
      },
      setReadOnly,
    ),
    command('switch', 'Make a snapshot boot next', OF_ONE, async (all, context) => {
      await all.switchTo(id(context));
      return [];
    }),
    command(
      'delete',
      'Remove a snapshot or an image',
      {
        options: {
          id: { type: 'string', value: 'ID', help: 'the snapshot or image' },
          url: { type: 'string', value: 'NAME', help: 'the image of this name' },
        },
      },
      remove,
    ),
    pull,
    load,
  ],
};
