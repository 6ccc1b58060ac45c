import { UNPACK_METHODS } from '../../shared/delta/layer-delta/recompressor.ts';
import { MAX_SOURCES } from '../../shared/delta/layer-delta/source-table.ts';
import type { ContentSource } from '../../shared/delta/layer-delta/writer.ts';
import type { CopiedMember } from './archive-copies.ts';
import type { OpenedStream, SpooledStretch } from './open-packed.ts';
import { type Likeness, LOOK_AHEAD, type PlannedPart, type SharedFile } from './own-plans.ts';
import { clip, type Run, RunWriter } from './run-writer.ts';
import type { LayerContext, PlannedFile } from './write-layer-delta.ts';

/** Most memory that unpacking takes for its window, in bytes. */
const MAX_WINDOW = 128 * 1024 * 1024;

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
  readonly #runs = new RunWriter();
  /** Parts that are whole files of the layer, by the file's number. */
  readonly #fileParts = new Map<number, number>();
  readonly #written = new Set<number>();

  constructor(context: LayerContext) {
    this.#context = context;
  }

  close(): void {
    this.#runs.close();
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
    await writer.content(sources, this.#runs.operations(content.runs, sources.length + 1, shift));
    this.#free(content.parts);
  }

  /** Outside of an entry. */
  async stream(content: PreparedContent): Promise<void> {
    const { size, sources, runs } = content;
    await this.#context.writer.stream(
      size,
      sources,
      this.#runs.operations(runs, sources.length, 0),
    );
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
    for (const [at, one] of planned.entries()) {
      this.#begin(planned.slice(at, at + LOOK_AHEAD));
      if (one.kind === 'raw') {
        const stretch = { ...from, offset: from.offset + one.offset, size: one.size };
        const like = one.like === undefined ? {} : { source: 0, like: one.like };
        runs.push({ kind: 'fresh', size: one.size, from: stretch, ...like });
        continue;
      }
      if (one.kind === 'copied') {
        runs.push({ kind: 'copy', size: one.size, source: sources.length, offset: 0 });
        sources.push(await this.#copied(one));
        continue;
      }
      const part = await this.#packed(index, one.stream, one.like, one.shared);
      runs.push({ kind: 'copy', size: one.stream.size, source: sources.length, offset: 0 });
      sources.push({ kind: 'part', part });
      parts.push(part);
    }
    return { size, isWhole: false, sources, runs, parts, ...(path === undefined ? {} : { path }) };
  }

  /** Has files that are copied planned at the same time. */
  #begin(planned: readonly PlannedPart[]): void {
    for (const one of planned) {
      if (one.kind === 'copied' && 'file' in one.from) this.#context.plans.get(one.from.file);
    }
  }

  /** What an archive's member is copied from. */
  async #copied({ from }: CopiedMember): Promise<ContentSource> {
    if ('path' in from) return this.#source(from.path);
    const part = await this.#filePart(from.file);
    if (part === undefined) throw new RangeError('a file was written before it was copied');
    return { kind: 'part', part };
  }

  /** A part that is a compressed stream, packed again from its content. */
  async #packed(
    index: number,
    stream: OpenedStream,
    like: Likeness | undefined,
    shared: readonly SharedFile[],
  ): Promise<number> {
    const { writer, layer } = this.#context;
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
    const operations = this.#runs.operations(runs, sources.length, 0);
    const built = await writer.build(content.size, sources, operations);
    const text = Buffer.from(recipe.text, 'latin1');
    const { memoryBytes, seconds } = recipe;
    const packed = writer.encode(built, text, stream.size, memoryBytes, seconds);
    const { offset = 0 } = layer.files.at(index) ?? {};
    const original = { file: layer.spool.path, offset: offset + stream.offset, size: stream.size };
    this.#context.proved.add(text, recipe.sha256, original);
    writer.free(built);
    if (base?.kind === 'part') writer.free(base.part);
    return packed;
  }

  /** A part that is a whole file of the layer; undefined when the file was written already. */
  async #filePart(index: number): Promise<number | undefined> {
    const known = this.#fileParts.get(index);
    if (known !== undefined || this.#written.has(index)) return known;
    const { layer, plans, writer } = this.#context;
    const file = layer.files.at(index);
    if (file === undefined) return undefined;
    const content = await this.#content(index, file, await plans.get(index));
    const { sources, runs, parts } = content;
    const [only] = sources;
    const isPart = runs.length === 1 && runs[0]?.kind === 'copy' && only?.kind === 'part';
    let part: number;
    if (isPart) part = only.part;
    else {
      part = await writer.build(file.size, sources, this.#runs.operations(runs, sources.length, 0));
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
    const { writer, proved, store } = this.#context;
    const source = store.fileAt(path);
    if (source !== undefined) {
      const start = store.contents.offset(store.contentOf(source));
      const packed = { file: store.spool.path, offset: start + offset, size: length };
      proved.addUnpacked(method, packed, content);
    }
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
}

function copyOfPart(part: number, size: number) {
  const runs: Run[] = [{ kind: 'copy', size, source: 0, offset: 0 }];
  return { sources: [{ kind: 'part' as const, part }], runs };
}
