import type { Recompression } from '../../shared/delta/machine-class.ts';
import type { Digest } from '../../shared/digest.ts';
import { parsePlatform } from '../../shared/oci/manifest.ts';
import type { Plan, PlanChain, PlanRequest, PlanWay } from '../../shared/plan.ts';
import type { DeltaFacts, ImageFacts } from '../store/facts.ts';
import { type ChainSearch, findChain } from './chains.ts';
import { resolveManifest } from './read-image.ts';
import { type ReadableFormats, readableFormats } from './readable-formats.ts';
import type { RepositoryFacts, RepositoryReader } from './repository-facts.ts';
import {
  fullBytes,
  fullWay,
  missingBytes,
  needsLayers,
  openDeltaWay,
  readyDeltaWay,
  sortWays,
} from './ways.ts';

/**
 * What the jobs know about a delta that does not exist yet; `make` is an estimate of the seconds until
 * it does.
 */
export type DeltaState =
  | { readonly state: 'absent' | 'computing'; readonly make: number }
  | { readonly state: 'refused'; readonly reason: string };

/** Which delta is meant. */
export type DeltaKey = {
  readonly repository: string;
  readonly sourceConfig: Digest;
  readonly target: Digest;
  readonly format: string;
};

export type PlannerOptions = {
  readonly facts: RepositoryFacts;
  /** What the gateway packs with, where it makes deltas. */
  readonly maker: Recompression;
  /** What became of making a delta for layers of so many bytes, as they travel whole. */
  readonly deltaState: (key: DeltaKey, bytes: number) => DeltaState;
  /** Whether encoders of machines of a class, by the name of their format, are not relied on. */
  readonly isSuspected?: (repository: string, format: string) => boolean;
  /** Called with each target before the plan is answered, so that it is signed by then. */
  readonly ensureSigned?: (target: {
    readonly repository: string;
    readonly tagOrDigest: string;
    readonly manifest: Digest;
  }) => Promise<void>;
};

/** Finds all ways to a target image. */
export class Planner {
  readonly #options: PlannerOptions;

  constructor(options: PlannerOptions) {
    this.#options = options;
  }

  /**
   * Answers a plan request with what `reader` may read. Images in `have` that the repository does
   * not hold add no way. Throws MANIFEST_UNKNOWN and what the registry answers.
   */
  async plan(
    repository: string,
    request: PlanRequest,
    reader: RepositoryReader,
    signal?: AbortSignal,
  ): Promise<Plan> {
    const { facts, maker, ensureSigned } = this.#options;
    const platform = request.platform === undefined ? undefined : parsePlatform(request.platform);
    const stored = await resolveManifest(reader, request.target, platform, signal);
    await ensureSigned?.({ repository, tagOrDigest: request.target, manifest: stored.digest });
    const target = await facts.imageOf(repository, reader, stored, signal);
    const held = await this.#heldImages(repository, request.have, reader, target, signal);
    const deltas = await facts.deltasTo(repository, reader, target.manifest, signal);
    const isSuspected = this.#options.isSuspected ?? (() => false);
    const names = request.formats?.filter((name) => !isSuspected(repository, name));
    const formats = readableFormats(names, maker);
    const bare = fullWay(target);
    const ways: PlanWay[] = [bare];
    for (const source of held) {
      const full = fullWay(target, source);
      if ((full.bytes ?? 0) < (bare.bytes ?? 0)) ways.push(full);
      ways.push(...this.#deltaWays(repository, formats, target, source, deltas));
    }
    const search = { target, held, ways };
    const chain =
      held.length === 0
        ? undefined
        : await this.#chain(repository, reader, formats, search, signal);
    return {
      target: {
        manifest: target.manifest,
        config: target.config,
        platform: target.platform,
        fullBytes: fullBytes(target),
      },
      ways: sortWays(ways),
      ...(chain === undefined ? {} : { chains: [chain] }),
    };
  }

  /** A chain of deltas that takes fewer bytes than whatever else is ready. */
  #chain(
    repository: string,
    reader: RepositoryReader,
    formats: ReadableFormats,
    search: Pick<ChainSearch, 'target' | 'held'> & { readonly ways: readonly PlanWay[] },
    signal: AbortSignal | undefined,
  ): Promise<PlanChain | undefined> {
    const { facts } = this.#options;
    const { target, held, ways } = search;
    const ready = ways.filter((way) => way.state === 'ready').map((way) => way.bytes ?? 0);
    return findChain({
      ...{ target, held, below: Math.min(...ready) },
      async deltasTo(manifest) {
        const deltas = await facts.deltasTo(repository, reader, manifest, signal);
        return deltas.filter(({ format }) => format === undefined || formats.reads(format));
      },
      imageByConfig: (config) => facts.imageByConfig(repository, reader, config, signal),
    });
  }

  async #heldImages(
    repository: string,
    have: readonly Digest[],
    reader: RepositoryReader,
    target: ImageFacts,
    signal: AbortSignal | undefined,
  ): Promise<ImageFacts[]> {
    const held: ImageFacts[] = [];
    for (const config of new Set(have)) {
      const image =
        config === target.config
          ? target
          : await this.#options.facts.imageByConfig(repository, reader, config, signal);
      if (image !== undefined) held.push(image);
    }
    return held;
  }

  /**
   * The ways by deltas from one source: the smallest of those that are ready; and one in the most
   * wanted format, when it is not there yet.
   */
  #deltaWays(
    repository: string,
    formats: ReadableFormats,
    target: ImageFacts,
    source: ImageFacts,
    deltas: readonly DeltaFacts[],
  ): PlanWay[] {
    const readable = deltas
      .filter((delta) => delta.sourceConfig === source.config)
      .filter((delta) => delta.format === undefined || formats.reads(delta.format));
    const ready = readable
      .map((delta) => readyDeltaWay(target, source, delta))
      .filter((way) => way !== undefined);
    const ways = sortWays(ready).slice(0, 1);
    const [format] = formats.made;
    const isMade = readable.some((delta) => delta.format === undefined || delta.format === format);
    if (format === undefined || isMade || !needsLayers(target, source)) return ways;
    const key = { repository, sourceConfig: source.config, target: target.manifest, format };
    const found = this.#options.deltaState(key, missingBytes(target, source));
    // Where there is one, another that is refused says nothing.
    if (found.state === 'refused' && ways.length > 0) return ways;
    return [...ways, openDeltaWay(target, source, format, found)];
  }
}
