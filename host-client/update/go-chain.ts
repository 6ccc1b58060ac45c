import { SnapgateError, toSnapgateError } from '../../shared/errors.ts';
import type { HeldImage } from '../storage/storage.ts';
import { buildImage } from './build-image.ts';
import type { Chain, ChainStep } from './chain.ts';
import { fetchBlobs } from './fetch-way.ts';
import { imageName, type UpdateSource } from './machine.ts';
import type { Obtained, Run } from './obtain-image.ts';
import { deltaWay } from './ways.ts';

/**
 * Goes through a chain of deltas: each image is built and registered from the one before. Those on
 * the way become no deployments and are removed once the target is there; when it does not get there,
 * they are what the next attempt starts from. `onStep` hears of each step before it begins. Throws
 * ENCODER_MISMATCH, and what is wrong with a step, for which no whole layer is fetched.
 */
export async function goChain(
  run: Run,
  source: UpdateSource,
  chain: Chain,
  onStep: (step: ChainStep) => void,
): Promise<Omit<Obtained, 'estimate'>> {
  const { config, events, storage } = run.machine;
  let image = chain.source;
  for (const [i, step] of chain.steps.entries()) {
    const { target, delta } = step;
    onStep(step);
    const isLast = i === chain.steps.length - 1;
    const way = await deltaWay(target, storage, image, delta);
    if (way.layers.some((layer) => layer.kind === 'full' && !delta.parts.has(layer.blob.digest))) {
      throw new SnapgateError('DELTA_INVALID', 'a delta of the chain leaves a layer out');
    }
    if (!isLast) events.notice(`step ${i + 1} of ${chain.steps.length}: ${target.manifest.digest}`);
    await fetchBlobs(run, source, way);
    const name = isLast ? undefined : imageName(config, target);
    const built = await buildImage(run, source, target, way, { name, isStep: true });
    image = built.image;
    if (!isLast) run.passed.push(image);
  }
  return { method: 'delta', image };
}

/** Removes the images that a chain went through. What cannot be removed now, `gc` removes later. */
export async function removePassed({ machine, passed }: Run): Promise<void> {
  for (const image of passed.splice(0).reverse()) await removeOne(machine, image);
}

async function removeOne({ storage, events }: Run['machine'], image: HeldImage): Promise<void> {
  try {
    await storage.removeImage(image);
  } catch (thrown) {
    events.notice(
      `image ${image.config} stays until snaphost gc: ${toSnapgateError(thrown).message}`,
    );
  }
}
