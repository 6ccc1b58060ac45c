import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { Deployment } from '../deploy/deployment.ts';
import { prepareDeployment } from '../deploy/prepare-deployment.ts';
import type { HeldImage } from '../storage/storage.ts';
import { channelName, type Machine } from './machine.ts';
import { type Obtained, obtainImage, type Run, type UpdateOptions } from './obtain-image.ts';
import { nameImage } from './pull.ts';
import type { Attempt, UpdateReport } from './report.ts';
import { readTarget, resolveTarget } from './target.ts';

/**
 * Brings the machine to what its tag names: resolve, trust, plan, room, download, build, register,
 * deploy, and one atomic switch at the end. Every step can be repeated, and until the switch the
 * machine boots what it booted before. Throws ALREADY_RUNNING and whatever stops an update.
 */
export async function update(machine: Machine, options: UpdateOptions = {}): Promise<UpdateReport> {
  const { state } = machine;
  const { signal } = options;
  return await state.exclusively(async () => {
    const time = new Date().toISOString();
    try {
      const report = await runUpdate(machine, options);
      await state.recordAttempt({ time, ...attemptOf(report, options) });
      return report;
    } catch (thrown) {
      const error = toSnapgateError(thrown);
      await state.recordAttempt({ time, result: 'failed', error: error.toJSON() }).catch(() => {});
      throw error;
    }
  }, signal);
}

function attemptOf(report: UpdateReport, options: UpdateOptions): Omit<Attempt, 'time'> {
  const { to, method } = report;
  if (options.downloadOnly) return { result: 'downloaded', to, method };
  return { result: report.from === to ? 'nothing' : 'updated', to, method };
}

async function runUpdate(machine: Machine, options: UpdateOptions): Promise<UpdateReport> {
  const { config, channels, deployments, events, state } = machine;
  const { signal } = options;
  const started = performance.now();
  events.step('recover');
  await deployments.recover();
  const { next } = await deployments.roles(await deployments.list());
  const run: Run = { machine, options, started, next, bytesWritten: 0 };

  events.step('resolve', channelName(config));
  const source = await machine.connect(signal);
  const seen = await state.seen();
  const isSame =
    seen !== undefined &&
    seen.image === channelName(config) &&
    seen.resolved === source.tagDigest &&
    seen.manifest === next?.manifest;
  if (isSame) {
    await channels.remember(seen.manifest, source.channel);
    await machine.storage.tidy(signal);
    return reportOf(run, seen.manifest, seen.fullBytes, { method: 'none' });
  }

  const { reader } = source;
  const trusted = await resolveTarget(
    source,
    source.wanted ?? config.tag,
    machine.platform,
    signal,
  );
  await refuseFailed(run, trusted.manifest.digest);
  const target = await readTarget(reader, trusted, machine.platform, signal);
  const { fullBytes, resolved, manifest } = target;
  // What is remembered is not looked at again, so nothing may be left over by then.
  const conclude = async () => {
    await machine.downloads.remove(() => true);
    await channels.remember(manifest.digest, source.channel);
    const image = channelName(config);
    await state.remember({ image, resolved, manifest: manifest.digest, fullBytes });
  };
  if (next?.manifest === manifest.digest) {
    await machine.storage.tidy(signal);
    await conclude();
    return reportOf(run, manifest.digest, fullBytes, { method: 'none' });
  }
  const outcome = await obtainImage(run, source, target);
  if (outcome.image === undefined) return reportOf(run, manifest.digest, fullBytes, outcome);
  const deployment = await deploy(run, outcome.image);
  await conclude();
  return reportOf(run, manifest.digest, fullBytes, { ...outcome, deployment });
}

/** Throws POLICY_REFUSED for an image that has failed on this machine, unless a person asks. */
async function refuseFailed({ machine, options }: Run, manifest: string): Promise<void> {
  if (!options.automatic) return;
  const reason = await machine.deployments.failureOf(manifest);
  if (reason === undefined) return;
  throw new SnapgateError('POLICY_REFUSED', `this image has failed here: ${reason}`, {
    where: channelName(machine.config),
    hint: 'Publish a newer one, or run snaphost update by hand to try it again.',
  });
}

type Outcome = Obtained & { readonly deployment?: Deployment };

async function deploy(run: Run, image: HeldImage): Promise<Deployment> {
  const { config, deployments, events, storage } = run.machine;
  const { signal } = run.options;
  events.step('deploy');
  const name = channelName(config);
  await nameImage(run.machine, image);
  const top = image.layerIds.at(-1);
  if (top === undefined) throw new SnapgateError('STORAGE_INVALID', 'the image has no layers');
  return deployments.install({
    ...{ image, name, top: storage.subvolumeOf(top), signal },
    prepare: (path, id) => prepareDeployment(run.machine, path, id),
  });
}

function reportOf(
  { machine, next, started, bytesWritten }: Run,
  to: UpdateReport['to'],
  fullBytes: number,
  { method, fallbackReason, deployment, estimate }: Outcome,
): UpdateReport {
  return {
    from: next?.manifest ?? null,
    ...{ to, method, bytesDownloaded: machine.received(), fullBytes, bytesWritten },
    estimate: estimate ?? null,
    seconds: Math.round(performance.now() - started) / 1000,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
    fallbackReason: fallbackReason ?? null,
    deployment: deployment?.id ?? next?.id ?? null,
  };
}
