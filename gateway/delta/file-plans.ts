import type { Effort } from './effort.ts';
import { resemblance } from './sketch.ts';
import type { Source, SourceChoice, SourceChooser } from './source-choice.ts';
import type { SourceStore } from './source-store.ts';
import type { TargetFile, TargetLayer } from './target-layer.ts';
import type { WorkerPool } from './worker-pool.ts';

/** How the content of a file of the target is made, whatever the format of the delta. */
export type FilePlan =
  | { readonly kind: 'new' }
  /** The whole content of a source. */
  | { readonly kind: 'same'; readonly source: Source }
  /** Like a source; `matches` as in {@link FoundMatches}. */
  | { readonly kind: 'similar'; readonly source: Source; readonly matches: Float64Array };

/** What planning the files of a layer takes. */
export type PlanOptions = {
  readonly store: SourceStore;
  readonly chooser: SourceChooser;
  readonly pool: WorkerPool;
  /** Memory for each worker thread, in bytes. */
  readonly workerBytes: number;
  readonly effort: Effort;
};

/** Files smaller than this, in bytes, are sent: naming a source would take as much. */
const MIN_FILE = 48;
/** Files that are being matched ahead of the one that is written. */
const LOOK_AHEAD = 64;

/** Plans all files of a layer, in order; the worker threads match ahead. */
export async function* planFiles(
  layer: TargetLayer,
  options: PlanOptions,
): AsyncGenerator<FilePlan, void, void> {
  const ahead: Promise<FilePlan>[] = [];
  let next = 0;
  for (let i = 0; i < layer.files.length; i += 1) {
    for (; next < layer.files.length && ahead.length < LOOK_AHEAD; next += 1) {
      const plan = planFile(layer, layer.files.at(next) as TargetFile, options);
      // Who waits for an earlier one must not make this an unhandled rejection.
      plan.catch(() => {});
      ahead.push(plan);
    }
    yield await (ahead.shift() as Promise<FilePlan>);
  }
}

/** Plans one file; `choice` is where it can come from, when that was asked before. */
export async function planFile(
  layer: TargetLayer,
  file: TargetFile,
  { store, chooser, pool, workerBytes, effort }: PlanOptions,
  choice?: SourceChoice,
): Promise<FilePlan> {
  if (file.size < MIN_FILE) return { kind: 'new' };
  const { same, similar } = choice ?? chooser.choose(file);
  if (same !== undefined) return { kind: 'same', source: same };
  if (similar.length === 0) return { kind: 'new' };
  const found = await pool.run({
    kind: 'match',
    oldFile: store.spool.path,
    candidates: similar.map(({ content: { offset, size } }) => ({ offset, size })),
    newFile: layer.spool.path,
    fresh: { offset: file.offset, size: file.size },
    endsOnly: file.facts.isPacked && !similar.some((source) => resembles(file, source)),
    memoryBytes: workerBytes,
    chain: effort.chain,
  });
  const source = similar[found?.candidate ?? -1];
  if (found === undefined || source === undefined) return { kind: 'new' };
  return { kind: 'similar', source, matches: found.matches };
}

/** Packed content resembles another only where both were packed in pieces, or not at all. */
function resembles({ facts }: TargetFile, { content }: Source): boolean {
  return resemblance(facts.sketch, content.facts.sketch) > 0;
}
