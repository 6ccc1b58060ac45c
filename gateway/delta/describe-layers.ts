import type { Digest } from '../../shared/digest.ts';
import type { ContentIndex, LayerFacts } from './content-index.ts';
import type { Stretch } from './delta-work.ts';
import type { ContentFacts } from './describe.ts';
import { describeAll } from './describe-all.ts';
import type { WorkerPool } from './worker-pool.ts';

/** A content of a layer in a spool file. */
export type LayerContent = Stretch & {
  readonly diffId: Digest;
  /** Its place among the layer's regular files that have content; absent for sparse ones. */
  readonly place?: number | undefined;
};

/** Describes contents, those of layers known from the index without reading; in the same order. */
export async function describeLayers(
  pool: WorkerPool,
  index: ContentIndex | undefined,
  file: string,
  contents: readonly LayerContent[],
): Promise<ContentFacts[]> {
  const layers = new Map<Digest, LayerFacts>();
  for (const { diffId } of contents) {
    if (index === undefined || layers.has(diffId)) continue;
    layers.set(diffId, await index.get(diffId));
  }
  const known = contents.map(({ diffId, place }) => {
    return place === undefined ? undefined : layers.get(diffId)?.get(place);
  });
  const unknown = contents.filter((_, i) => known[i] === undefined);
  const described = await describeAll(pool, file, unknown);
  const added = new Map<Digest, Map<number, ContentFacts>>();
  for (const [i, { diffId, place }] of unknown.entries()) {
    if (place === undefined) continue;
    const facts = added.get(diffId) ?? new Map(layers.get(diffId));
    added.set(diffId, facts.set(place, described[i] as ContentFacts));
  }
  for (const [diffId, facts] of added) await index?.put(diffId, facts);
  let next = 0;
  return known.map((facts) => facts ?? (described[next++] as ContentFacts));
}
