import { formatBytes, formatSeconds } from '../../shared/cli/format.ts';
import { toSnapgateError } from '../../shared/errors.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import type { Deployment } from '../deploy/deployment.ts';
import type { HeldImage, LayerSource } from '../storage/storage.ts';
import { type BuildResult, buildLayers } from './build.ts';
import {
  type Choice,
  type ChooseContext,
  chooseWay,
  fallbackReasonOf,
  findOffers,
} from './choose-way.ts';
import { expectedRate, secondsOf, totalSeconds } from './estimate.ts';
import { importImage } from './import-image.ts';
import { channelName, type Machine, type UpdateSource } from './machine.ts';
import { checkRoom, needsOf } from './room.ts';
import { sortSources } from './sources.ts';
import type { Target } from './target.ts';
import { fullWay, importWay, type Way } from './ways.ts';

/** What is asked of an update. */
export type UpdateOptions = {
  /** Stop when all is downloaded. */
  readonly downloadOnly?: boolean;
  /** Take the whole image, also where a delta would do. */
  readonly full?: boolean;
  /** Nobody asked: an image that has failed here is not tried again. */
  readonly automatic?: boolean;
  readonly signal?: AbortSignal;
};

/** An update under way: what belongs to one run. */
export type Run = {
  readonly machine: Machine;
  readonly options: UpdateOptions;
  /** `performance.now()` at its start. */
  readonly started: number;
  /** What boots next as long as nothing is switched. */
  readonly next: Deployment | undefined;
  /** Bytes of downloads and file content written so far. */
  bytesWritten: number;
};

/** How the target came, and the image that it is in storage now. */
export type Obtained = {
  readonly method: 'delta' | 'full' | 'none';
  /** Undefined when only the download was asked for. */
  readonly image?: HeldImage;
  readonly fallbackReason?: string | undefined;
  /** What the way that was chosen was expected to take, before it was gone. */
  readonly estimate?: Estimate;
};

/** Exact bytes on the line, and an estimate of the seconds; null when nothing is known of the line. */
export type Estimate = { readonly bytes: number; readonly seconds: number | null };

/** Gets the target into storage, or just its blobs onto the disk. */
export async function obtainImage(
  run: Run,
  source: UpdateSource,
  target: Target,
): Promise<Obtained> {
  const { machine, options } = run;
  const { storage } = machine;
  const held = await storage.listImages();
  const same = held.find(
    ({ config, manifest }) => config === target.config && manifest === target.manifest.digest,
  );
  if (same !== undefined) {
    await storage.tidy(options.signal);
    return { method: 'none', ...(options.downloadOnly ? {} : { image: same }) };
  }
  const support = await storage.checkSupport(options.signal);
  if (!support.supported) machine.events.notice(`whole layers only: ${support.reason}`);
  const choice: Choice = support.supported
    ? await choose(run, source, target, held)
    : { way: importWay(target), fallbackReason: support.reason };
  const estimate = await announce(run, choice.way);
  const fetched = await fetchWay(run, source, target, choice);
  const { way } = fetched;
  let { fallbackReason } = fetched;
  const method = way.bytes === 0 ? 'none' : way.method;
  if (options.downloadOnly) return { method, fallbackReason, estimate };
  if (!support.supported) {
    machine.events.step('register', channelName(machine.config));
    const image = await importImage(machine, target, options.signal);
    run.bytesWritten += way.bytes;
    return { method, fallbackReason, image, estimate };
  }
  const { image, built } = await build(run, source, target, way);
  fallbackReason = [fallbackReason, built.fallbackReason].filter(Boolean).join('; ') || undefined;
  const isWhole = built.fallbackReason !== undefined;
  return { method: isWhole ? 'full' : method, fallbackReason, image, estimate };
}

/** Says what is to come, before it begins. */
async function announce({ machine }: Run, way: Way): Promise<Estimate> {
  const { config, events, state } = machine;
  const rate = expectedRate(await state.lineRate(), config.line.bytesPerSecond);
  const parts = secondsOf(way, rate);
  const seconds = totalSeconds(parts);
  if (way.bytes > 0) {
    const time = seconds ?? parts.build;
    const scope = seconds === null ? 'to build it' : 'in all';
    const about = time === null ? '' : `, about ${formatSeconds(time)} ${scope} (an estimate)`;
    const how = way.method === 'delta' ? 'by delta' : 'whole layers';
    events.notice(`${how}: ${formatBytes(way.bytes)} to fetch${about}`);
  }
  return { bytes: way.bytes, seconds };
}

/**
 * Downloads what the chosen way needs. A delta with a blob that is bad or gone is given up for the
 * whole image. Answers with the way that was gone.
 */
async function fetchWay(
  run: Run,
  source: UpdateSource,
  target: Target,
  choice: Choice,
): Promise<Choice> {
  const fetch = async (way: Way) => {
    await makeRoom(run, way.fetch, way);
    await download(run, source, way.fetch);
  };
  try {
    await fetch(choice.way);
    return choice;
  } catch (thrown) {
    const reason = choice.way.method === 'delta' ? fallbackReasonOf(thrown) : undefined;
    if (reason === undefined) throw thrown;
    run.machine.events.notice(`the delta is given up: ${reason}`);
    const way = await fullWay(target, run.machine.storage);
    await fetch(way).catch((gone: unknown) => {
      // Where there is nothing but the delta, what is wrong with it is what counts.
      throw toSnapgateError(gone).code === 'BLOB_UNKNOWN' ? thrown : gone;
    });
    return { way, fallbackReason: reason };
  }
}

async function choose(
  run: Run,
  source: UpdateSource,
  target: Target,
  held: readonly HeldImage[],
): Promise<Choice> {
  const { machine, options, next } = run;
  machine.events.step('plan');
  const context: ChooseContext = {
    ...{ config: machine.config, source: source.reader, api: source.api, trust: source.trust },
    ...{ storage: machine.storage, events: machine.events },
    lineRate: expectedRate(await machine.state.lineRate(), machine.config.line.bytesPerSecond),
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  };
  const sources = options.full ? [] : sortSources(held, machine.config, next?.config);
  const offers = await findOffers(context, target, sources);
  return await chooseWay(context, target, offers);
}

async function makeRoom(run: Run, blobs: readonly Descriptor[], way: Way): Promise<void> {
  const { downloads, events, storage } = run.machine;
  events.step('room');
  // What an earlier update left over is in the way now.
  const wanted = new Set(blobs.map((blob) => blob.digest));
  await downloads.remove((digest) => !wanted.has(digest));
  const missing = await downloads.missingBytes(blobs);
  const places = {
    ...{ downloads: downloads.folder, work: storage.workDir, graphRoot: storage.graphRoot },
  };
  await checkRoom(needsOf(way, missing, places));
}

async function download(
  run: Run,
  source: UpdateSource,
  blobs: readonly Descriptor[],
): Promise<void> {
  const { downloads, events, state } = run.machine;
  const { signal } = run.options;
  if (blobs.length === 0) return;
  events.step('download', `${blobs.length} blobs`);
  const total = blobs.reduce((sum, blob) => sum + blob.size, 0);
  let done = total - (await downloads.missingBytes(blobs));
  events.progress(done, total);
  const [first, started] = [done, performance.now()];
  for (const blob of blobs) {
    await downloads.fetch(source.reader, blob, {
      signal,
      onBytes(bytes) {
        done += bytes;
        run.bytesWritten += bytes;
        events.progress(Math.min(done, total), total);
      },
    });
  }
  await state.measureLine(done - first, (performance.now() - started) / 1000);
}

async function build(
  run: Run,
  source: UpdateSource,
  target: Target,
  way: Way,
): Promise<{ image: HeldImage; built: BuildResult }> {
  const { config, downloads, events, storage } = run.machine;
  const { signal } = run.options;
  events.step('build');
  const expected = way.bounds?.installedBytes ?? 0;
  await using transaction = await storage.begin({
    layers: target.layers,
    lockTimeoutMs: config.waits.storageSeconds * 1000,
    onProgress: (bytes) => events.progress(bytes, Math.max(bytes, expected)),
    ...(signal === undefined ? {} : { signal }),
  });
  const fetchWhole = async ({ blob }: LayerSource) => {
    events.notice(`layer ${blob.digest} is fetched whole`);
    await checkRoom([
      { path: downloads.folder, bytes: await downloads.missingBytes([blob]), what: 'a layer' },
    ]);
    await download(run, source, [blob]);
    events.step('build');
  };
  const context = { storage, downloads, limits: config.limits, fetchWhole };
  const built = await buildLayers(context, transaction, way);
  run.bytesWritten += built.bytesWritten;
  events.step('register', channelName(config));
  const { manifest, configBytes } = target;
  const image = await transaction.commit({
    ...{ manifest, config: configBytes, name: channelName(config) },
  });
  return { image, built };
}
