import type { HeldImage } from '../storage/storage.ts';
import { channelName, imageName, type Machine } from './machine.ts';
import { obtainImage, type Run, type UpdateOptions } from './obtain-image.ts';
import { refuseFailed } from './refuse-failed.ts';
import type { PullReport } from './report.ts';
import { readTarget, resolveTarget } from './target.ts';

/** What is asked of a pull. */
export type PullOptions = Pick<UpdateOptions, 'full' | 'signal'> & {
  /** One more name for the image: the one under which it was asked for. */
  readonly alias?: string;
  /** Also an image that has failed on this machine. */
  readonly again?: boolean;
};

/**
 * Brings what the machine's tag names into Podman's storage, by the way of an update: resolve, trust,
 * plan, room, download, build, register. Nothing is deployed, and what boots stays. Throws
 * ALREADY_RUNNING and whatever stops an update.
 */
export async function pullImage(machine: Machine, options: PullOptions = {}): Promise<PullReport> {
  const { config, deployments, downloads, events, platform, state } = machine;
  const { signal } = options;
  return state.exclusively(async () => {
    events.step('recover');
    await deployments.recover();
    const { next } = await deployments.roles(await deployments.list());
    const run: Run = {
      machine,
      options,
      started: performance.now(),
      next,
      bytesWritten: 0,
      passed: [],
    };
    events.step('resolve', channelName(config));
    const source = await machine.connect(signal);
    const trusted = await resolveTarget(source, source.wanted ?? config.tag, platform, signal);
    if (options.again !== true) {
      const hint = 'Name a newer one, or add --again to try it once more.';
      await refuseFailed(machine, trusted.manifest.digest, hint);
    }
    const target = await readTarget(source.reader, trusted, platform, signal);
    const { image, method, fallbackReason } = await obtainImage(run, source, target);
    if (image !== undefined) await nameImage(machine, image, options.alias);
    await downloads.remove(() => true);
    return {
      ...{ image: target.config, manifest: target.manifest.digest, name: channelName(config) },
      ...{ method, bytesDownloaded: machine.received(), fullBytes: target.fullBytes },
      ...{ bytesWritten: run.bytesWritten, fallbackReason: fallbackReason ?? null },
    };
  }, signal);
}

/**
 * Gives an image the name of the machine's channel, one that stays when the channel moves on, and
 * `alias`.
 */
export async function nameImage(
  { config, storage }: Pick<Machine, 'config' | 'storage'>,
  image: HeldImage,
  alias = channelName(config),
): Promise<void> {
  for (const wanted of new Set([channelName(config), imageName(config, image), alias])) {
    if (!image.names.includes(wanted)) await storage.addName(image, wanted);
  }
}
