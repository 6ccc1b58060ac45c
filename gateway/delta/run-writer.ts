import { FILTER } from '../../shared/delta/layer-delta/branch-filter.ts';
import { type ContentChunk, ContentWriter } from '../../shared/delta/layer-delta/content-writer.ts';
import { MODE } from '../../shared/delta/layer-delta/prediction.ts';
import { type MovedProgram, movedProgram, readProgram } from './address-map.ts';
import type { SpooledStretch } from './open-packed.ts';
import type { Likeness } from './own-plans.ts';
import { PredictedMatch } from './predicted-match.ts';
import { ReadWindow } from './read-window.ts';
import { SpoolFile } from './spool-file.ts';

/** Most bytes read at a time. */
const CHUNK = 1024 * 1024;
/** Programs smaller than this, in bytes, have too little code for a filter to find anything. */
const MIN_CODE = 4096;

/** A stretch of a content: like a base in a table of sources, copied from a source, or new. */
export type Run = { readonly size: number } & (
  | { readonly kind: 'copy'; readonly source: number; readonly offset: number }
  | {
      readonly kind: 'fresh';
      readonly from: SpooledStretch;
      /** The base's place in the table. */
      readonly source?: number;
      readonly like?: Likeness;
    }
);

/** A stretch of a content that resembles one of a base. */
type Stretch = {
  readonly source: number;
  readonly base: SpooledStretch;
  readonly oldAt: number;
  readonly from: SpooledStretch;
  readonly newAt: number;
  readonly length: number;
};

/** The filters that suit the code of programs, by the modes that predict it. */
const FILTERS: ReadonlyMap<number, number> = new Map([
  [MODE.X86_64, FILTER.X86_64],
  [MODE.ARM64, FILTER.ARM64],
]);

/** A fresh run: where it stands, how much of the content is before it, and its code (from, to). */
type Fresh = {
  readonly from: SpooledStretch;
  readonly made: number;
  readonly code: readonly (readonly [number, number])[];
  /** What suits the code. */
  readonly filter: number;
};

/** Turns runs of contents into operations, reading both sides from temporary files. */
export class RunWriter {
  readonly #old = new ReadWindow();
  readonly #new = new ReadWindow();
  readonly #files = new Map<string, SpoolFile>();

  close(): void {
    for (const file of this.#files.values()) file.close();
  }

  /** The operations of a content; places of runs in the table are shifted by `shift`. */
  async *operations(
    runs: readonly Run[],
    tableSize: number,
    shift: number,
  ): AsyncGenerator<ContentChunk, void, void> {
    const out = new ContentWriter(tableSize);
    let made = 0;
    for (const run of runs) {
      if (run.kind === 'copy') {
        out.copy(run.source + shift, run.offset, run.size);
        made += run.size;
        continue;
      }
      const { from, like } = run;
      const fresh = { from, made, ...this.#code(from, run.size) };
      let done = 0;
      const isStart = made === 0 && like !== undefined;
      const source = (run.source ?? 0) + shift;
      const moved = isStart ? this.#moved(run, like) : undefined;
      let predicted: PredictedMatch | undefined;
      if (moved !== undefined) {
        out.map(source, moved.map);
        predicted = new PredictedMatch(moved);
      }
      const matches = moved?.matches ?? like?.matches ?? [];
      for (let i = 0; like !== undefined && i < matches.length; i += 3) {
        const oldAt = matches[i] ?? 0;
        const newAt = matches[i + 1] ?? 0;
        const length = matches[i + 2] ?? 0;
        yield* this.#literal(out, fresh, done, newAt);
        const stretch = { source, base: like.base.spooled, oldAt, from, newAt, length };
        yield* this.#match(out, stretch, made, predicted);
        done = newAt + length;
      }
      yield* this.#literal(out, fresh, done, run.size);
      made += run.size;
    }
    yield* out.finish();
  }

  /** Bytes of a run from `start` to `end`, those of code by a filter. */
  *#literal(
    out: ContentWriter,
    { from, made, code, filter }: Fresh,
    start: number,
    end: number,
  ): Generator<ContentChunk, void, void> {
    for (let at = start; at < end; ) {
      let isCode = false;
      let to = Math.min(end, at + CHUNK);
      for (const [first, last] of code) {
        if (first <= at && at < last) isCode = true;
        if (at < first) to = Math.min(to, first);
        else if (at < last) to = Math.min(to, last);
      }
      const bytes = this.#new.bytes(this.#file(from.file).read, from, at, to - at);
      out.literal(bytes, isCode ? filter : FILTER.NONE, made + at);
      yield* out.takeFull();
      at += bytes.length;
    }
  }

  /** Where the code is in a program; nothing for what is none. */
  #code({ file, offset }: SpooledStretch, size: number): Pick<Fresh, 'code' | 'filter'> {
    const program =
      size < MIN_CODE ? undefined : readProgram({ read: this.#file(file).read, offset, size });
    const filter = FILTERS.get(program?.codeMode ?? MODE.PLAIN);
    if (filter === undefined || !program?.isLinked) return { code: [], filter: FILTER.NONE };
    const code = program.stretches
      .filter(({ isCode }) => isCode)
      .map(({ offset: start, length }): [number, number] => [start, start + length]);
    return { code, filter };
  }

  /** How a program moved that is the whole of a content. */
  #moved(
    { from, size }: { readonly from: SpooledStretch; readonly size: number },
    { base, matches }: Likeness,
  ): MovedProgram | undefined {
    const { file, ...place } = base.spooled;
    return movedProgram(
      { read: this.#file(file).read, ...place },
      { read: this.#file(from.file).read, offset: from.offset, size },
      matches,
    );
  }

  *#match(
    out: ContentWriter,
    { source, base, oldAt, from, newAt, length }: Stretch,
    made: number,
    predicted: PredictedMatch | undefined,
  ): Generator<ContentChunk, void, void> {
    for (let done = 0; done < length; done += CHUNK) {
      const count = Math.min(CHUNK, length - done);
      const position = oldAt + done;
      const old = this.#old.bytes(this.#file(base.file).read, base, position, count);
      const fresh = this.#new.bytes(this.#file(from.file).read, from, newAt + done, count);
      if (predicted === undefined) out.add(source, position, old, fresh);
      else predicted.add(out, { source, position, made: made + newAt + done, old, fresh });
      yield* out.takeFull();
    }
  }

  #file(path: string): SpoolFile {
    const known = this.#files.get(path);
    if (known !== undefined) return known;
    const opened = new SpoolFile(path);
    this.#files.set(path, opened);
    return opened;
  }
}

/** What of a likeness concerns a stretch; new offsets count from its start. */
export function clip({ base, matches }: Likeness, start: number, end: number): Likeness {
  const kept: number[] = [];
  for (let i = 0; i < matches.length; i += 3) {
    const oldAt = matches[i] ?? 0;
    const newAt = matches[i + 1] ?? 0;
    const from = Math.max(newAt, start);
    const to = Math.min(newAt + (matches[i + 2] ?? 0), end);
    if (from < to) kept.push(oldAt + from - newAt, from - start, to - from);
  }
  return { base, matches: Float64Array.from(kept) };
}
