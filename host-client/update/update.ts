import type { Digest } from '../../shared/digest.ts';
import { type ErrorCode, SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { Deployment } from '../deploy/deployment.ts';
import { prepareDeployment } from '../deploy/prepare-deployment.ts';
import type { HeldImage } from '../storage/storage.ts';
import { peakRssBytes } from '../system/tidy-memory.ts';
import { channelName, type Machine, type UpdateSource } from './machine.ts';
import { type Obtained, obtainImage, type Run, type UpdateOptions } from './obtain-image.ts';
import { nameImage } from './pull.ts';
import { refuseFailed } from './refuse-failed.ts';
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
    const trace: Trace = { time: new Date().toISOString(), started: performance.now() };
    try {
      const report = await runUpdate(machine, options, trace);
      const attempt = { time: trace.time, ...attemptOf(report, options) };
      await state.recordAttempt(attempt);
      await tell(machine, trace, attempt, report, signal);
      return report;
    } catch (thrown) {
      const error = toSnapgateError(thrown);
      const attempt = { time: trace.time, result: 'failed' as const, error: error.toJSON() };
      await state.recordAttempt(attempt).catch(() => {});
      await tell(machine, trace, attempt, undefined, signal);
      throw error;
    }
  }, signal);
}

/** What is known of an attempt, however it ends. */
type Trace = {
  readonly time: string;
  /** `performance.now()` at its start. */
  readonly started: number;
  from?: Digest | undefined;
  to?: Digest;
  /** Who can be told of it. */
  api?: UpdateSource['api'];
};

async function tell(
  { reports, received }: Machine,
  { started, from, to, api }: Trace,
  { time, result, error }: Attempt,
  report: UpdateReport | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { method, fullBytes, fallbackReason } = report ?? {};
  const attempt = {
    ...{ time, result, bytes: received() },
    seconds: Math.round(performance.now() - started) / 1000,
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
    ...(method === undefined ? {} : { method }),
    ...(fullBytes === undefined ? {} : { fullBytes }),
    ...(error === undefined ? {} : { error: error.code as ErrorCode }),
    ...(fallbackReason ? { fallbackReason } : {}),
  };
  await reports.tell(attempt, api, signal);
}

function attemptOf(report: UpdateReport, options: UpdateOptions): Omit<Attempt, 'time'> {
  const { to, method } = report;
  if (options.downloadOnly) return { result: 'downloaded', to, method };
  return { result: report.from === to ? 'nothing' : 'updated', to, method };
}

async function runUpdate(
  machine: Machine,
  options: UpdateOptions,
  trace: Trace,
): Promise<UpdateReport> {
  const { config, channels, deployments, events, state } = machine;
  const { signal } = options;
  events.step('recover');
  await deployments.recover();
  const { next } = await deployments.roles(await deployments.list());
  const run: Run = { machine, options, started: trace.started, next, bytesWritten: 0, passed: [] };
  trace.from = next?.manifest;

  events.step('resolve', channelName(config));
  const source = await machine.connect(signal);
  trace.api = source.api;
  const seen = await state.seen();
  const isSame =
    seen !== undefined &&
    seen.image === channelName(config) &&
    seen.resolved === source.tagDigest &&
    seen.manifest === next?.manifest;
  if (isSame) {
    trace.to = seen.manifest;
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
  trace.to = trusted.manifest.digest;
  if (options.automatic) {
    const hint = 'Publish a newer one, or run snaphost update by hand to try it again.';
    await refuseFailed(machine, trusted.manifest.digest, hint);
  }
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
  if (options.downloadOnly) await machine.downloads.keep();
  if (outcome.image === undefined) return reportOf(run, manifest.digest, fullBytes, outcome);
  const deployment = await deploy(run, outcome.image);
  await conclude();
  return reportOf(run, manifest.digest, fullBytes, { ...outcome, deployment });
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
    peakRssBytes: peakRssBytes(),
    fallbackReason: fallbackReason ?? null,
    deployment: deployment?.id ?? next?.id ?? null,
  };
}
