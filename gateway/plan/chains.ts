import type { Digest } from '../../shared/digest.ts';
import { roundEstimate } from '../../shared/estimate.ts';
import type { PlanChain } from '../../shared/plan.ts';
import type { DeltaFacts, ImageFacts } from '../store/facts.ts';
import { readyDeltaWay } from './ways.ts';

/** Most deltas one after the other; each is built and written by itself. */
const MAX_STEPS = 4;
/** Most images whose deltas are looked at for one plan. */
const MAX_LOOKS = 12;

/** What is known of a registry, as the client may read it. */
export type ChainSearch = {
  readonly target: ImageFacts;
  /** The images that the machine holds. */
  readonly held: readonly ImageFacts[];
  /** Chains of so many bytes or more are of no use. */
  readonly below: number;
  /** The deltas to an image that the client can read. */
  readonly deltasTo: (manifest: Digest) => Promise<readonly DeltaFacts[]>;
  readonly imageByConfig: (config: Digest) => Promise<ImageFacts | undefined>;
};

type Step = { readonly delta: DeltaFacts; readonly target: ImageFacts };
type Path = { readonly source: Digest; readonly steps: readonly Step[]; readonly bytes: number };

/**
 * The chain of deltas that are ready, through images that the machine does not hold, with the fewest
 * bytes; undefined when there is none below the limit. A bounded number of images is looked at, the
 * cheapest to come from first.
 */
export async function findChain(search: ChainSearch): Promise<PlanChain | undefined> {
  const held = new Map(search.held.map((image) => [image.config, image]));
  const open: Path[] = [{ source: search.target.config, steps: [], bytes: 0 }];
  const seen = new Set<Digest>();
  for (let looks = 0; looks < MAX_LOOKS; ) {
    const path = takeCheapest(open);
    if (path === undefined) return undefined;
    const source = held.get(path.source);
    if (source !== undefined && path.steps.length > 0) {
      const chain = describeChain(source, path);
      if (chain !== undefined) return chain;
      continue;
    }
    if (seen.has(path.source) || path.steps.length === MAX_STEPS) continue;
    seen.add(path.source);
    looks += 1;
    open.push(...(await pathsBefore(search, path, held)));
  }
  return undefined;
}

/** The paths that are one delta longer, at their start. */
async function pathsBefore(
  { target, below, deltasTo, imageByConfig }: ChainSearch,
  path: Path,
  held: ReadonlyMap<Digest, ImageFacts>,
): Promise<Path[]> {
  const isTarget = path.steps.length === 0;
  const image = isTarget ? target : await imageByConfig(path.source);
  if (image === undefined) return [];
  const longer: Path[] = [];
  for (const delta of await deltasTo(image.manifest)) {
    const bytes = path.bytes + delta.bytes;
    // From a held image to the target itself is no chain.
    if (bytes >= below || (isTarget && held.has(delta.sourceConfig))) continue;
    const steps = [{ delta, target: image }, ...path.steps];
    longer.push({ source: delta.sourceConfig, steps, bytes });
  }
  return longer;
}

function takeCheapest(paths: Path[]): Path | undefined {
  let best = 0;
  for (const [i, path] of paths.entries()) {
    if (path.bytes < (paths[best]?.bytes ?? 0)) best = i;
  }
  return paths.splice(best, 1)[0];
}

/** Undefined when a delta of it leaves a layer open. */
function describeChain(source: ImageFacts, path: Path): PlanChain | undefined {
  const steps: PlanChain['steps'] = [];
  let from = source;
  let build = 0;
  for (const { delta, target } of path.steps) {
    const way = readyDeltaWay(target, from, delta);
    if (way === undefined) return undefined;
    build += way.seconds?.build ?? 0;
    steps.push({
      ...{ target: target.manifest, config: target.config, bytes: delta.bytes },
      artifact: { digest: delta.artifact, size: delta.size },
      ...(delta.format === undefined ? {} : { format: delta.format }),
    });
    from = target;
  }
  return {
    ...{ sourceConfig: source.config, sourceManifest: source.manifest },
    ...{ bytes: path.bytes, seconds: { build: roundEstimate(build) }, steps },
  };
}
