import { formatBytes, formatSeconds } from '../../shared/cli/format.ts';
import { toSnapgateError } from '../../shared/errors.ts';
import type { Descriptor } from '../../shared/oci/manifest.ts';
import { letGoOfCode } from '../system/tidy-memory.ts';
import { type Choice, fallbackReasonOf } from './choose-way.ts';
import { expectedRate, secondsOf, secondsOfChain, totalSeconds } from './estimate.ts';
import type { UpdateSource } from './machine.ts';
import type { Run } from './obtain-image.ts';
import { checkRoom, needsOf } from './room.ts';
import type { Target } from './target.ts';
import { fullWay, type Way } from './ways.ts';

/** Exact bytes on the line, and an estimate of the seconds; null when nothing is known of the line. */
export type Estimate = { readonly bytes: number; readonly seconds: number | null };

/** Says what is to come, before it begins. */
export async function announce({ machine }: Run, { way, chain }: Choice): Promise<Estimate> {
  const { config, events, state } = machine;
  const rate = expectedRate(await state.lineRate(), config.line.bytesPerSecond);
  const { bytes } = chain ?? way;
  const parts = chain === undefined ? secondsOf(way, rate) : secondsOfChain(chain, rate);
  const seconds = totalSeconds(parts);
  if (bytes > 0) {
    const time = seconds ?? parts.build;
    const scope = seconds === null ? 'to build it' : 'in all';
    const about = time === null ? '' : `, about ${formatSeconds(time)} ${scope} (an estimate)`;
    const single = way.method === 'delta' ? 'by delta' : 'whole layers';
    const how = chain === undefined ? single : `by ${chain.steps.length} deltas in a row`;
    events.notice(`${how}: ${formatBytes(bytes)} to fetch${about}`);
  }
  return { bytes, seconds };
}

/**
 * Downloads what the chosen way needs. A delta with a blob that is bad or gone is given up for the
 * whole image. Answers with the way that was gone.
 */
export async function fetchWay(
  run: Run,
  source: UpdateSource,
  target: Target,
  choice: Choice,
): Promise<Choice> {
  try {
    await fetchBlobs(run, source, choice.way);
    return choice;
  } catch (thrown) {
    const reason = choice.way.method === 'delta' ? fallbackReasonOf(thrown) : undefined;
    if (reason === undefined) throw thrown;
    run.machine.events.notice(`the delta is given up: ${reason}`);
    const way = await fullWay(target, run.machine.storage);
    await fetchBlobs(run, source, way).catch((gone: unknown) => {
      // Where there is nothing but the delta, what is wrong with it is what counts.
      throw toSnapgateError(gone).code === 'BLOB_UNKNOWN' ? thrown : gone;
    });
    return { way, fallbackReason: reason };
  }
}

/** Downloads what a way needs, once there is room for it. Throws NO_SPACE where it does not fit. */
export async function fetchBlobs(run: Run, source: UpdateSource, way: Way): Promise<void> {
  await makeRoom(run, way);
  await download(run, source, way.fetch);
}

/** Removes downloads that are not wanted any more, and throws NO_SPACE where a way does not fit. */
async function makeRoom(run: Run, way: Way): Promise<void> {
  const { downloads, events, storage } = run.machine;
  events.step('room');
  // What an earlier update left over is in the way now.
  const wanted = new Set(way.fetch.map((blob) => blob.digest));
  await downloads.remove((digest) => !wanted.has(digest));
  const missing = await downloads.missingBytes(way.fetch);
  const { workDir: work, graphRoot } = storage;
  const places = { downloads: downloads.folder, work, graphRoot };
  await checkRoom(needsOf(way, missing, places));
}

/** Downloads blobs that are not there yet. */
export async function download(
  run: Run,
  source: UpdateSource,
  blobs: readonly Descriptor[],
): Promise<void> {
  const { downloads, events, state } = run.machine;
  const { signal } = run.options;
  if (blobs.length === 0) return;
  letGoOfCode();
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
