import { readTarBytes } from '../../shared/delta/annotations.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { buildSeconds, unpackedBytes } from '../../shared/estimate.ts';
import type { PlanChain } from '../../shared/plan.ts';
import type { HeldImage } from '../storage/storage.ts';
import { type ChooseContext, judgeDelta } from './choose-way.ts';
import type { TrustedDelta } from './delta-artifact.ts';
import { readTarget, resolveTarget, type Target } from './target.ts';

/** A chain that the gateway speaks of, from an image that is held. Only advice. */
export type OfferedChain = PlanChain & { readonly held: HeldImage };

/** An image on the way, and the delta that leads to it. Both are signed. */
export type ChainStep = { readonly target: Target; readonly delta: TrustedDelta };

/** Deltas to apply one after the other; the last leads to the target. */
export type Chain = {
  readonly source: HeldImage;
  readonly steps: readonly ChainStep[];
  /** All that travels, by signed manifests. */
  readonly bytes: number;
  /** An estimate of the seconds that building takes. */
  readonly build: number;
};

/** Each step writes an image to the disk. */
const MAX_STEPS = 4;

/**
 * Judges every image and every delta of a chain as if each were the target. Throws what is wrong with
 * one of them.
 */
export async function openChain(
  context: ChooseContext,
  target: Target,
  { held, steps: offered }: OfferedChain,
): Promise<Chain> {
  const { source, trust, platform, signal } = context;
  if (offered.length > MAX_STEPS || offered.at(-1)?.target !== target.manifest.digest) {
    throw new SnapgateError('DELTA_INVALID', 'a chain is too long or leads elsewhere');
  }
  const steps: ChainStep[] = [];
  let bytes = 0;
  let build = 0;
  let from = held.config;
  for (const { target: digest, artifact } of offered) {
    let image = target;
    if (steps.length < offered.length - 1) {
      const known = { reader: source, api: undefined, trust };
      const trusted = await resolveTarget(known, digest, platform, signal);
      image = await readTarget(source, trusted, platform, signal);
      bytes += image.manifest.bytes.length + image.configBytes.length;
    }
    const delta = await judgeDelta(context, image, from, artifact.digest);
    for (const part of delta.parts.values()) bytes += part.size;
    bytes += delta.size;
    build += buildSecondsOf(delta);
    steps.push({ target: image, delta });
    from = image.config;
  }
  return { source: held, steps, bytes, build };
}

function buildSecondsOf({ parts, bounds }: TrustedDelta): number {
  const rebuiltBytes = [...parts.values()].reduce(
    (sum, part) => sum + (readTarBytes(part) ?? unpackedBytes(part.size)),
    0,
  );
  const encodeSeconds = bounds?.encodeSeconds ?? 0;
  return buildSeconds({ packedBytes: 0, rebuiltBytes, encodeSeconds });
}
