import { type ContentChunk, ContentWriter } from '../../shared/delta/layer-delta/content-writer.ts';
import { MAX_SOURCES } from '../../shared/delta/layer-delta/operations.ts';
import { AddressMap } from '../../shared/delta/layer-delta/prediction.ts';
import { UNPACK_METHODS } from '../../shared/delta/layer-delta/recompressor.ts';
import type { ContentSource } from '../../shared/delta/layer-delta/writer.ts';
import { addressMapOf } from './address-map.ts';
import type { OpenedStream, SpooledStretch } from './open-packed.ts';
import type { Likeness, PlannedPart, SharedFile } from './own-plans.ts';
import { PredictedMatch } from './predicted-match.ts';
import { SpoolFile } from './spool-file.ts';
import type { LayerContext, PlannedFile } from './write-layer-delta.ts';

/** Most bytes read at a time. */
const CHUNK = 1024 * 1024;
/** Most memory that unpacking takes for its window, in bytes. */
const MAX_WINDOW = 128 * 1024 * 1024;

/** A stretch of a content: like a base in a table of sources, copied from a source, or new. */
type Run = { readonly size: number } & (
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

/** A content whose parts are there: what remains are operations. */
export type PreparedContent = {
  readonly size: number;
  /** The source that is most likely the default one. */
  readonly path?: string;
  readonly isWhole: boolean;
  readonly sources: readonly ContentSource[];
  readonly runs: readonly Run[];
  /** Parts that are not needed afterwards. */
  readonly parts: readonly number[];
};

/** Writes contents by their plans. */
export class ContentWork {
  readonly #context: LayerContext;
  readonly #old = Buffer.allocUnsafe(CHUNK);
  readonly #new = Buffer.allocUnsafe(CHUNK);
  readonly #files = new Map<string, SpoolFile>();
  /** Parts that are whole files of the layer, by the file's number. */
  readonly #fileParts = new Map<number, number>();
  readonly #written = new Set<number>();

  constructor(context: LayerContext) {
    this.#context = context;
  }

  close(): void {
    for (const file of this.#files.values()) file.close();
  }

  /** Makes the parts that a file needs; to be called between two commands. */
  async prepare({ index, file, plan }: PlannedFile): Promise<PreparedContent> {
    this.#written.add(index);
    const part = this.#fileParts.get(index);
    const { size } = file;
    if (part !== undefined) {
      this.#fileParts.delete(index);
      return { ...{ size, isWhole: false, parts: [part] }, ...copyOfPart(part, size) };
    }
    return this.#content(index, file, plan);
  }

  /** After the headers of an entry whose default source is at a path. */
  async entry(content: PreparedContent, defaultPath: string): Promise<void> {
    const { writer } = this.#context;
    const isDefault = content.path === defaultPath;
    if (content.isWhole && isDefault) {
      writer.wholeSource();
      return;
    }
    // The default source has the first place of the table.
    const sources = isDefault ? content.sources.slice(1) : content.sources;
    const shift = isDefault ? 0 : 1;
    await writer.content(sources, this.#operations(content.runs, sources.length + 1, shift));
    this.#free(content.parts);
  }

  /** Outside of an entry. */
  async stream(content: PreparedContent): Promise<void> {
    const { size, sources, runs } = content;
    await this.#context.writer.stream(size, sources, this.#operations(runs, sources.length, 0));
    this.#free(content.parts);
  }

  #free(parts: readonly number[]): void {
    for (const part of parts) this.#context.writer.free(part);
  }

  async #content(
    index: number,
    file: PlannedFile['file'],
    plan: PlannedFile['plan'],
  ): Promise<PreparedContent> {
    const { size, offset } = file;
    const from = { file: this.#context.layer.spool.path, offset, size };
    if (plan.kind === 'opened') return this.#opened(index, size, plan.parts, from);
    if (plan.kind === 'new') {
      const runs: Run[] = [{ kind: 'fresh', size, from }];
      return { size, isWhole: false, sources: [], runs, parts: [] };
    }
    const { path, content } = plan.source;
    const base = { size, path, sources: [this.#source(path)], parts: [] };
    if (plan.kind === 'same') {
      return { ...base, isWhole: true, runs: [{ kind: 'copy', size, source: 0, offset: 0 }] };
    }
    const spooled = {
      file: this.#context.store.spool.path,
      offset: content.offset,
      size: content.size,
    };
    const like = { base: { path, spooled }, matches: plan.matches };
    return { ...base, isWhole: false, runs: [{ kind: 'fresh', size, from, source: 0, like }] };
  }

  async #opened(
    index: number,
    size: number,
    planned: readonly PlannedPart[],
    from: SpooledStretch,
  ): Promise<PreparedContent> {
    const path = planned.find((part) => part.kind === 'raw' && part.like)?.like?.base.path;
    const sources: ContentSource[] = path === undefined ? [] : [this.#source(path)];
    const runs: Run[] = [];
    const parts: number[] = [];
    for (const one of planned) {
      if (one.kind === 'raw') {
        const stretch = { ...from, offset: from.offset + one.offset, size: one.size };
        const like = one.like === undefined ? {} : { source: 0, like: one.like };
        runs.push({ kind: 'fresh', size: one.size, from: stretch, ...like });
        continue;
      }
      const part = await this.#packed(index, one.stream, one.like, one.shared);
      runs.push({ kind: 'copy', size: one.stream.size, source: sources.length, offset: 0 });
      sources.push({ kind: 'part', part });
      parts.push(part);
    }
    return { size, isWhole: false, sources, runs, parts, ...(path === undefined ? {} : { path }) };
  }

  /** A part that is a compressed stream, packed again from its content. */
  async #packed(
    index: number,
    stream: OpenedStream,
    like: Likeness | undefined,
    shared: readonly SharedFile[],
  ): Promise<number> {
    const { writer } = this.#context;
    const { content, recipe } = stream;
    if (recipe === undefined) throw new RangeError('a stream has no recipe');
    const copies: { at: SharedFile; part: number }[] = [];
    for (const one of shared) {
      if (one.file === index || copies.length === MAX_SOURCES - 1) continue;
      const part = await this.#filePart(one.file);
      if (part !== undefined) copies.push({ at: one, part });
    }
    const base = like && this.#base(like);
    const sources = base === undefined ? [] : [base];
    const runs: Run[] = [];
    let done = 0;
    const fresh = (to: number) => {
      if (to <= done) return;
      const stretch = { ...content, offset: content.offset + done, size: to - done };
      const part = like && clip(like, done, to);
      const known = part === undefined ? {} : { source: 0, like: part };
      runs.push({ kind: 'fresh', size: to - done, from: stretch, ...known });
      done = to;
    };
    for (const { at, part } of copies) {
      fresh(at.offset);
      runs.push({ kind: 'copy', size: at.size, source: sources.length, offset: 0 });
      sources.push({ kind: 'part', part });
      done = at.offset + at.size;
    }
    fresh(content.size);
    const operations = this.#operations(runs, sources.length, 0);
    const built = await writer.build(content.size, sources, operations);
    const text = Buffer.from(recipe.text, 'latin1');
    const packed = writer.encode(built, text, stream.size, recipe.memoryBytes);
    writer.free(built);
    if (base?.kind === 'part') writer.free(base.part);
    return packed;
  }

  /** A part that is a whole file of the layer; undefined when the file was written already. */
  async #filePart(index: number): Promise<number | undefined> {
    const known = this.#fileParts.get(index);
    if (known !== undefined || this.#written.has(index)) return known;
    const { layer, plans, writer } = this.#context;
    const file = layer.files[index];
    if (file === undefined) return undefined;
    const content = await this.#content(index, file, await plans.get(index));
    const { sources, runs, parts } = content;
    const [only] = sources;
    const isPart = runs.length === 1 && runs[0]?.kind === 'copy' && only?.kind === 'part';
    let part: number;
    if (isPart) part = only.part;
    else {
      part = await writer.build(file.size, sources, this.#operations(runs, sources.length, 0));
      this.#free(parts);
    }
    this.#fileParts.set(index, part);
    return part;
  }

  /** The base as a source: the unpacked content of a stream becomes a part. */
  #base({ base }: Likeness): ContentSource {
    const { path, stream } = base;
    if (stream === undefined) return this.#source(path);
    const { offset, size: length, format, content } = stream;
    const method = UNPACK_METHODS.indexOf(format) + 1;
    const memory = Math.min(content.size, MAX_WINDOW);
    const { writer } = this.#context;
    const part = writer.unpack(
      this.#source(path),
      { offset, length },
      method,
      content.size,
      memory,
    );
    return { kind: 'part', part };
  }

  #source(path: string): ContentSource {
    const index = this.#context.headers.at(path);
    return index === undefined ? { kind: 'file', path } : { kind: 'entry', index };
  }

  /** The operations of a content; places of runs in the table are shifted by `shift`. */
  async *#operations(
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
      let done = 0;
      const isStart = made === 0 && like !== undefined;
      const predicted = isStart
        ? this.#predicted(out, run, like, (run.source ?? 0) + shift)
        : undefined;
      for (let i = 0; like !== undefined && i < like.matches.length; i += 3) {
        const oldAt = like.matches[i] ?? 0;
        const newAt = like.matches[i + 1] ?? 0;
        const length = like.matches[i + 2] ?? 0;
        yield* this.#literal(out, from, done, newAt);
        const source = (run.source ?? 0) + shift;
        const stretch = { source, base: like.base.spooled, oldAt, from, newAt, length };
        yield* this.#match(out, stretch, made, predicted);
        done = newAt + length;
      }
      yield* this.#literal(out, from, done, run.size);
      made += run.size;
    }
    yield* out.finish();
  }

  *#literal(
    out: ContentWriter,
    from: SpooledStretch,
    start: number,
    end: number,
  ): Generator<ContentChunk, void, void> {
    for (let at = start; at < end; at += CHUNK) {
      const bytes = this.#new.subarray(0, Math.min(CHUNK, end - at));
      this.#file(from.file).read(bytes, from.offset + at);
      out.literal(bytes);
      yield* out.takeFull();
    }
  }

  /** Sets up prediction for a program that is the whole of a content. */
  #predicted(
    out: ContentWriter,
    { from, size }: { readonly from: SpooledStretch; readonly size: number },
    { base, matches }: Likeness,
    source: number,
  ): PredictedMatch | undefined {
    const { file, ...place } = base.spooled;
    const parts = addressMapOf(
      { read: this.#file(file).read, ...place },
      { read: this.#file(from.file).read, offset: from.offset, size },
      matches,
    );
    if (parts === undefined) return undefined;
    out.map(source, parts);
    return new PredictedMatch(new AddressMap(parts));
  }

  *#match(
    out: ContentWriter,
    { source, base, oldAt, from, newAt, length }: Stretch,
    made: number,
    predicted: PredictedMatch | undefined,
  ): Generator<ContentChunk, void, void> {
    for (let done = 0; done < length; done += CHUNK) {
      const count = Math.min(CHUNK, length - done);
      const old = this.#old.subarray(0, count);
      const fresh = this.#new.subarray(0, count);
      this.#file(base.file).read(old, base.offset + oldAt + done);
      this.#file(from.file).read(fresh, from.offset + newAt + done);
      const position = oldAt + done;
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

function copyOfPart(part: number, size: number) {
  const runs: Run[] = [{ kind: 'copy', size, source: 0, offset: 0 }];
  return { sources: [{ kind: 'part' as const, part }], runs };
}

/** What of a likeness concerns a stretch; new offsets count from its start. */
function clip({ base, matches }: Likeness, start: number, end: number): Likeness {
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
