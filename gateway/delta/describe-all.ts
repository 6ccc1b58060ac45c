import type { Stretch } from './delta-work.ts';
import type { ContentFacts } from './describe.ts';
import type { WorkerPool } from './worker-pool.ts';

/** A request describes about this many bytes, and at most this many stretches. */
const BATCH_BYTES = 16 * 1024 * 1024;
const BATCH_COUNT = 512;

/** Has the worker threads describe stretches of a file; answers in the same order. */
export async function describeAll(
  pool: WorkerPool,
  file: string,
  stretches: readonly Stretch[],
): Promise<ContentFacts[]> {
  const work: Promise<readonly ContentFacts[]>[] = [];
  let batch: Stretch[] = [];
  let bytes = 0;
  const send = () => {
    if (batch.length > 0) work.push(pool.run({ kind: 'describe', file, stretches: batch }));
    batch = [];
    bytes = 0;
  };
  for (const { offset, size } of stretches) {
    batch.push({ offset, size });
    bytes += size;
    if (bytes >= BATCH_BYTES || batch.length >= BATCH_COUNT) send();
  }
  send();
  return (await Promise.all(work)).flat();
}
