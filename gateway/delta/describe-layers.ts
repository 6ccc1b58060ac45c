import type { Digest } from '../../shared/digest.ts';
import type { ContentIndex, LayerFacts } from './content-index.ts';
import type { ContentTable } from './content-table.ts';
import type { ContentFacts } from './describe.ts';
import { describeAll } from './describe-all.ts';
import type { WorkerPool } from './worker-pool.ts';

/** Where a content comes from. */
export type ContentOrigin = {
  readonly diffId: Digest;
  /** Its place among the layer's regular files that have content; absent for sparse ones. */
  readonly place?: number | undefined;
};

/** With more contents than this their facts are not kept, as they are held in memory for that. */
const MAX_INDEXED = 100_000;

/** What describing the contents of a spool file takes. */
export type DescribeOptions = {
  readonly pool: WorkerPool;
  readonly index?: ContentIndex | undefined;
  readonly file: string;
  readonly originOf: (index: number) => ContentOrigin;
};

/** Describes the contents of a table, those of layers known from the index without reading. */
export async function describeLayers(
  contents: ContentTable,
  { pool, index, file, originOf }: DescribeOptions,
): Promise<void> {
  const stretch = (i: number) => ({ offset: contents.offset(i), size: contents.size(i) });
  if (index === undefined || contents.length > MAX_INDEXED) {
    const describe = (i: number, facts: ContentFacts) => contents.describe(i, facts);
    await describeAll(pool, file, { numbers: numbersTo(contents.length), stretch, describe });
    return;
  }
  const layers = new Map<Digest, LayerFacts>();
  const unknown: number[] = [];
  for (const i of numbersTo(contents.length)) {
    const { diffId, place } = originOf(i);
    const known = layers.get(diffId) ?? (await index.get(diffId));
    layers.set(diffId, known);
    const facts = place === undefined ? undefined : known.get(place);
    if (facts === undefined) unknown.push(i);
    else contents.describe(i, facts);
  }
  const added = new Map<Digest, Map<number, ContentFacts>>();
  await describeAll(pool, file, {
    ...{ numbers: unknown, stretch },
    describe: (i, facts) => {
      contents.describe(i, facts);
      const { diffId, place } = originOf(i);
      if (place === undefined) return;
      const all = added.get(diffId) ?? new Map(layers.get(diffId));
      added.set(diffId, all.set(place, facts));
    },
  });
  for (const [diffId, facts] of added) await index.put(diffId, facts);
}

function* numbersTo(end: number): Generator<number, void, void> {
  for (let i = 0; i < end; i += 1) yield i;
}
