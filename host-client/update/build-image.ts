import { SnapgateError } from '../../shared/errors.ts';
import type { HeldImage, LayerSource } from '../storage/storage.ts';
import { letGoOfCode } from '../system/tidy-memory.ts';
import { type BuildResult, buildLayers } from './build.ts';
import { download } from './fetch-way.ts';
import { channelName, imageName, type UpdateSource } from './machine.ts';
import type { Run } from './obtain-image.ts';
import { checkRoom } from './room.ts';
import type { Target } from './target.ts';
import type { Way } from './ways.ts';

/** What is special about an image that a chain of deltas goes through. */
export type BuildOptions = {
  /** Its name; that of the machine's channel when absent. */
  readonly name?: string | undefined;
  /** No layer is fetched whole: another way is shorter then. */
  readonly isStep?: boolean;
};

/**
 * Builds and registers an image whose blobs are there. Throws ENCODER_MISMATCH, and whatever keeps it
 * from being built.
 */
export async function buildImage(
  run: Run,
  source: UpdateSource,
  target: Target,
  way: Way,
  options: BuildOptions = {},
): Promise<{ image: HeldImage; built: BuildResult }> {
  const { config, downloads, events, storage } = run.machine;
  const name = options.name ?? channelName(config);
  const names: [string, ...string[]] = [
    name,
    ...(options.name === undefined ? [imageName(config, target)] : []),
  ];
  const { signal } = run.options;
  events.step('build');
  letGoOfCode();
  const expected = way.bounds?.installedBytes ?? 0;
  await using transaction = await storage.begin({
    layers: target.layers,
    lockTimeoutMs: config.waits.storageSeconds * 1000,
    onProgress: (bytes) => events.progress(bytes, Math.max(bytes, expected)),
    ...(signal === undefined ? {} : { signal }),
  });
  const fetchWhole = async ({ blob }: LayerSource) => {
    if (options.isStep) throw new SnapgateError('DELTA_INVALID', 'a step of a chain goes wrong');
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
  events.step('register', name);
  const { manifest, configBytes } = target;
  const image = await transaction.commit({
    ...{ manifest, config: configBytes, names },
    onPlaced: async () => {
      for (const blob of way.fetch) await downloads.drop(blob);
    },
  });
  return { image, built };
}
