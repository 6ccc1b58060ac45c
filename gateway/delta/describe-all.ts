import type { Stretch } from './delta-work.ts';
import type { ContentFacts } from './describe.ts';
import type { WorkerPool } from './worker-pool.ts';

/** A request describes about this many bytes, and at most this many stretches. */
const BATCH_BYTES = 16 * 1024 * 1024;
const BATCH_COUNT = 512;

/** Contents to be described, by their number. */
export type Undescribed = {
  /** Each once. */
  readonly numbers: Iterable<number>;
  readonly stretch: (index: number) => Stretch;
  readonly describe: (index: number, facts: ContentFacts) => void;
};

type Batch = { readonly numbers: number[]; readonly stretches: Stretch[] };

/** Has the worker threads describe stretches of a file, a few requests at a time. */
export async function describeAll(
  pool: WorkerPool,
  file: string,
  contents: Undescribed,
): Promise<void> {
  const batches = batchesOf(contents);
  // One batch waits for each thread, so that none is idle.
  const work = async () => {
    for (const { numbers, stretches } of batches) {
      const facts = await pool.run({ kind: 'describe', file, stretches });
      for (const [i, one] of facts.entries()) contents.describe(numbers[i] ?? 0, one);
    }
  };
  await Promise.all(Array.from({ length: 2 * pool.size }, work));
}

function* batchesOf({ numbers, stretch }: Undescribed): Generator<Batch, void, void> {
  let batch: Batch = { numbers: [], stretches: [] };
  let bytes = 0;
  for (const number of numbers) {
    const { offset, size } = stretch(number);
    batch.numbers.push(number);
    batch.stretches.push({ offset, size });
    bytes += size;
    if (bytes < BATCH_BYTES && batch.numbers.length < BATCH_COUNT) continue;
    yield batch;
    batch = { numbers: [], stretches: [] };
    bytes = 0;
  }
  if (batch.numbers.length > 0) yield batch;
}
