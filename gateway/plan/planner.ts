import { parseFormatName } from '../../shared/delta/formats.ts';
import type { Digest } from '../../shared/digest.ts';
import { parsePlatform } from '../../shared/oci/manifest.ts';
import { TAR_DIFF } from '../../shared/oci/media-types.ts';
import type { Plan, PlanRequest, PlanWay } from '../../shared/plan.ts';
import type { DeltaFacts, ImageFacts } from '../store/facts.ts';
import { resolveManifest } from './read-image.ts';
import type { RepositoryFacts, RepositoryReader } from './repository-facts.ts';
import { fullBytes, fullWay, needsLayers, openDeltaWay, readyDeltaWay, sortWays } from './ways.ts';

/** What the jobs know about a delta that does not exist yet. */
export type DeltaState =
  | { readonly state: 'absent' | 'computing' }
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
  /** What became of making a delta. */
  readonly deltaState: (key: DeltaKey) => DeltaState;
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
    const { facts, ensureSigned } = this.#options;
    const platform = request.platform === undefined ? undefined : parsePlatform(request.platform);
    const stored = await resolveManifest(reader, request.target, platform, signal);
    await ensureSigned?.({ repository, tagOrDigest: request.target, manifest: stored.digest });
    const target = await facts.imageOf(repository, reader, stored, signal);
    const held = await this.#heldImages(repository, request.have, reader, target, signal);
    const deltas = await facts.deltasTo(repository, reader, target.manifest, signal);
    const bare = fullWay(target);
    const ways: PlanWay[] = [bare];
    for (const source of held) {
      const full = fullWay(target, source);
      if ((full.bytes ?? 0) < (bare.bytes ?? 0)) ways.push(full);
      const way = this.#deltaWay(repository, request, target, source, deltas);
      if (way !== undefined) ways.push(way);
    }
    return {
      target: {
        manifest: target.manifest,
        config: target.config,
        platform: target.platform,
        fullBytes: fullBytes(target),
      },
      ways: sortWays(ways),
    };
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

  #deltaWay(
    repository: string,
    request: PlanRequest,
    target: ImageFacts,
    source: ImageFacts,
    deltas: readonly DeltaFacts[],
  ): PlanWay | undefined {
    const readable = (format: string) => request.formats?.includes(format) ?? true;
    const ready = deltas
      .filter((delta) => delta.sourceConfig === source.config)
      .filter((delta) => delta.format === undefined || readable(delta.format))
      .map((delta) => readyDeltaWay(target, source, delta))
      .filter((way) => way !== undefined);
    const [smallest] = sortWays(ready);
    if (smallest !== undefined) return smallest;
    // Clients that say nothing read what all tools do.
    const format = (request.formats ?? [TAR_DIFF]).find((name) => parseFormatName(name));
    if (format === undefined || !needsLayers(target, source)) return undefined;
    const key = { repository, sourceConfig: source.config, target: target.manifest, format };
    const found = this.#options.deltaState(key);
    const reason = found.state === 'refused' ? found.reason : undefined;
    return openDeltaWay(source, format, found.state, reason);
  }
}
