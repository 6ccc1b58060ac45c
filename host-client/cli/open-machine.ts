import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type CommandContext, stringOption } from '../../shared/cli/command.ts';
import { toSnapgateError } from '../../shared/errors.ts';
import { parsePlatform } from '../../shared/oci/manifest.ts';
import { Grub } from '../boot/grub.ts';
import { SystemdBoot } from '../boot/systemd-boot.ts';
import { Channels } from '../channel/channels.ts';
import { gatewayMetadata } from '../channel/metadata-source.ts';
import { type Config, loadConfig } from '../config.ts';
import { bootEntriesSwitch } from '../deploy/boot-entries.ts';
import { defaultSubvolumeSwitch } from '../deploy/default-subvolume.ts';
import type { BootSwitch } from '../deploy/deployment.ts';
import { Deployments } from '../deploy/deployments.ts';
import { Line } from '../net/gateway-source.ts';
import { openStorage } from '../storage/open-storage.ts';
import { Downloads } from '../update/downloads.ts';
import type { UpdateEvents } from '../update/events.ts';
import { channelOf, followedBy } from '../update/follow-channel.ts';
import type { Machine, UpdateSource } from '../update/machine.ts';
import { UpdateReports } from '../update/reports.ts';
import { StateFolder } from '../update/state.ts';
import { writeStatusFile } from '../update/status.ts';
import { ownPlatform } from '../update/target.ts';
import { readPolicy, trustBy } from '../update/trust.ts';
import { EventLines } from './event-lines.ts';
import { overridesFrom } from './options.ts';
import { ProgressReport } from './progress.ts';

/**
 * Opens the machine that a command line means, lets `action` work on it, and closes the line. Throws
 * CONFIG_INVALID, NOT_BTRFS and what the action throws.
 */
export async function withMachine<T>(
  context: CommandContext,
  action: (machine: Machine) => Promise<T>,
): Promise<T> {
  return withConfig(await loadConfig(overridesFrom(context.options)), context, action);
}

/** As {@link withMachine}, for a command that changes the machine: the status file tells it. */
export async function changingMachine<T>(
  context: CommandContext,
  action: (machine: Machine) => Promise<T>,
): Promise<T> {
  return withMachine(context, async (machine) => {
    try {
      return await action(machine);
    } finally {
      await writeStatusFile(machine).catch((thrown) =>
        machine.events.notice(`no status file: ${toSnapgateError(thrown).message}`),
      );
    }
  });
}

/** As {@link withMachine}, for a configuration that is at hand. */
export async function withConfig<T>(
  config: Config,
  { io, options }: Pick<CommandContext, 'io' | 'options'>,
  action: (machine: Machine) => Promise<T>,
): Promise<T> {
  const descriptor = stringOption(options, 'progress-fd');
  const lines = descriptor === undefined ? undefined : EventLines.toDescriptor(descriptor);
  const progress = new ProgressReport(io);
  const events = lines === undefined ? progress : toAll(progress, lines);
  const line = new Line(config, (message) => events.notice(message));
  try {
    const result = await action(await openMachine(config, line, events));
    lines?.end();
    return result;
  } catch (thrown) {
    lines?.end(thrown);
    throw thrown;
  } finally {
    progress.end();
    line.close();
  }
}

function toAll(...listeners: readonly UpdateEvents[]): UpdateEvents {
  return {
    step: (...event) => listeners.forEach((one) => void one.step(...event)),
    progress: (...event) => listeners.forEach((one) => void one.progress(...event)),
    notice: (...event) => listeners.forEach((one) => void one.notice(...event)),
  };
}

async function openMachine(config: Config, line: Line, events: UpdateEvents): Promise<Machine> {
  const { graphRoot, runRoot, deploymentsDir, stateDir, root } = config;
  await mkdir(graphRoot, { recursive: true, mode: 0o711 });
  const state = new StateFolder(stateDir);
  const channels = new Channels(stateDir);
  return {
    ...{ config, state, events },
    platform: config.platform === undefined ? ownPlatform() : parsePlatform(config.platform),
    downloads: new Downloads(state.downloads, join(root, 'run/snaphost/downloads')),
    storage: await openStorage({ graphRoot, runRoot, ...config.storage }),
    deployments: new Deployments(deploymentsDir, root, bootSwitch(config)),
    channels,
    reports: new UpdateReports(config, (message) => events.notice(message)),
    connect: (signal) => connect(config, line, channels, signal),
    reach: (signal) => reach(config, line, signal),
    received: () => line.received,
  };
}

function bootSwitch({ root, deploymentsDir, machine }: Config): BootSwitch {
  if (machine === undefined) return defaultSubvolumeSwitch(join(root, '.'));
  const boot = join(root, machine.bootFolder);
  return bootEntriesSwitch({
    loader: machine.bootLoader === 'grub' ? new Grub(boot) : new SystemdBoot(boot),
    folder: deploymentsDir,
    devices: machine,
    tries: machine.tries,
    kernelOptions: machine.kernelOptions,
  });
}

async function connect(
  config: Config,
  line: Line,
  channels: Channels,
  signal: AbortSignal | undefined,
): Promise<UpdateSource> {
  // A policy that cannot be read ends it before anything is asked.
  const policy = await readPolicy(config.policy);
  const rule = channelOf(policy, config.name);
  if (rule === undefined) {
    const { repository: reader, api, tagDigest } = await line.connect(signal);
    return { reader, api, tagDigest, trust: trustBy(policy, config.name, reader) };
  }
  return line.first(async ({ gateway, transport, repository: reader, api }) => {
    const source = gatewayMetadata(transport, gateway);
    return {
      reader,
      api,
      ...(await followedBy({ config, policy, rule, channels }, reader, source, signal)),
    };
  });
}

/** The gateway that answers, whatever it says of the tag. */
async function reach(
  config: Config,
  line: Line,
  signal: AbortSignal | undefined,
): Promise<Pick<UpdateSource, 'reader' | 'trust'>> {
  const policy = await readPolicy(config.policy);
  return line.first(async ({ repository: reader }) => {
    await reader.tagDigest(config.tag, signal).catch((thrown) => {
      // With a channel, the registry need not have the tag.
      if (toSnapgateError(thrown).code !== 'MANIFEST_UNKNOWN') throw thrown;
    });
    return { reader, trust: trustBy(policy, config.name, reader) };
  });
}
