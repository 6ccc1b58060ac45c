import { type ContentChunk, ContentWriter } from '../../shared/delta/layer-delta/content-writer.ts';
import { splitRecords } from '../../shared/delta/layer-delta/entry-writer.ts';
import type { SourceEntry } from '../../shared/delta/layer-delta/source-entries.ts';
import { paddingOf } from '../../shared/delta/layer-delta/tar-records.ts';
import type { ContentSource, LayerDeltaWriter } from '../../shared/delta/layer-delta/writer.ts';
import type { Piece } from '../../shared/delta/piece.ts';
import { readTar, type TarLimits } from '../../shared/tar/reader.ts';
import type { FilePlan } from './file-plans.ts';
import { type HeaderReferences, sameHeaders } from './source-headers.ts';
import type { SourceStore } from './source-store.ts';
import type { SpoolFile } from './spool-file.ts';
import type { TargetFile, TargetLayer } from './target-layer.ts';

/** Most bytes read at a time. */
const CHUNK = 1024 * 1024;

/** What writing a layer takes. */
export type LayerContext = {
  readonly layer: TargetLayer;
  readonly store: SourceStore;
  readonly headers: HeaderReferences;
  readonly writer: LayerDeltaWriter;
  readonly tarLimits: TarLimits;
  /** Takes the place in the tar stream. */
  readonly onProgress: (position: number) => void;
};

/** Writes a layer in the project's own format. `plans` has one for each file of the layer. */
export async function writeLayerDelta(
  context: LayerContext,
  plans: AsyncIterator<FilePlan>,
): Promise<void> {
  const entries = new EntryWork(context);
  const { layer, writer, tarLimits, onProgress } = context;
  let next = 0;
  let position = 0;
  for await (const event of readTar(piecesOf(layer.spool), tarLimits)) {
    if (event.kind === 'content') {
      position += event.piece.bytes.length;
      continue;
    }
    if (event.kind === 'padding') {
      position += event.bytes.length;
      continue;
    }
    if (event.kind === 'end') {
      entries.flush();
      await writer.literal(event.bytes);
      continue;
    }
    position += event.raw.length;
    const file = layer.files[next];
    if (file?.offset !== position || file.size !== event.entry.size) {
      await entries.entry(event.raw, event.entry.path);
      continue;
    }
    next += 1;
    const plan = await plans.next();
    if (plan.done) throw new RangeError('a file of the layer has no plan');
    await entries.entry(event.raw, event.entry.path, { file, plan: plan.value });
    onProgress(position);
  }
  entries.flush();
}

type PlannedFile = { readonly file: TargetFile; readonly plan: FilePlan };
type Reference = { readonly index: number; readonly entry: SourceEntry };

/** Writes entries; those that are as in the source are gathered to runs. */
class EntryWork {
  readonly #context: LayerContext;
  readonly #contents: ContentWork;
  #keepFrom = 0;
  #keepCount = 0;

  constructor(context: LayerContext) {
    this.#context = context;
    this.#contents = new ContentWork(context);
  }

  /** An entry by its raw headers; `planned` is there when it has content. */
  async entry(raw: Buffer, name: string, planned?: PlannedFile): Promise<void> {
    const path = name
      .split('/')
      .filter((part) => part !== '' && part !== '.')
      .join('/');
    const reference = this.#reference(path, planned?.plan);
    const isPlain = planned === undefined || this.#hasPlainPadding(planned.file);
    if (isPlain && reference !== undefined && this.#isKept(reference, raw, planned)) {
      this.#keep(reference.index);
      return;
    }
    this.flush();
    const { writer } = this.#context;
    await writer.drain();
    const records = isPlain ? splitRecords(raw) : undefined;
    if (records !== undefined && writer.entry(records, reference)) {
      if (planned === undefined) return;
      await this.#contents.entry(planned, reference?.entry.facts.path ?? path);
      return;
    }
    await writer.literal(raw);
    if (planned === undefined) return;
    await this.#contents.stream(planned);
    await writer.literal(this.#padding(planned.file));
  }

  /** Writes what was gathered. */
  flush(): void {
    if (this.#keepCount === 0) return;
    this.#context.writer.moveTo(this.#keepFrom);
    this.#context.writer.keep(this.#keepCount);
    this.#keepCount = 0;
  }

  #keep(index: number): void {
    if (this.#keepCount > 0 && index !== this.#keepFrom + this.#keepCount) this.flush();
    if (this.#keepCount === 0) this.#keepFrom = index;
    this.#keepCount += 1;
  }

  /** The source entry that the headers are coded against: of the same file, of a like one, or near. */
  #reference(path: string, plan: FilePlan | undefined): Reference | undefined {
    const { headers, writer } = this.#context;
    const source = plan === undefined || plan.kind === 'new' ? undefined : plan.source.path;
    const here = this.#keepCount > 0 ? this.#keepFrom + this.#keepCount : writer.pointer;
    const index =
      headers.at(path) ??
      (source === undefined ? undefined : headers.at(source)) ??
      headers.renamed(path) ??
      (headers.count === 0 ? undefined : Math.max(0, here - 1));
    return index === undefined ? undefined : { index, entry: headers.entries.at(index) };
  }

  #isKept({ entry }: Reference, raw: Buffer, planned: PlannedFile | undefined): boolean {
    if (!sameHeaders(entry, raw)) return false;
    if (planned === undefined) return true;
    const held = this.#context.store.files.get(entry.facts.path);
    return (
      held?.facts.sha256 === planned.file.facts.sha256 && entry.padding.every((byte) => byte === 0)
    );
  }

  #padding({ offset, size }: TargetFile): Buffer {
    const padding = Buffer.alloc(paddingOf(size));
    this.#context.layer.spool.read(padding, offset + size);
    return padding;
  }

  #hasPlainPadding(file: TargetFile): boolean {
    return this.#padding(file).every((byte) => byte === 0);
  }
}

/** Writes contents by their plans. */
class ContentWork {
  readonly #context: LayerContext;
  readonly #old = Buffer.allocUnsafe(CHUNK);
  readonly #new = Buffer.allocUnsafe(CHUNK);

  constructor(context: LayerContext) {
    this.#context = context;
  }

  /** After the headers of an entry whose default source is at a path. */
  async entry({ file, plan }: PlannedFile, defaultPath: string): Promise<void> {
    const { writer } = this.#context;
    if (plan.kind === 'same' && plan.source.path === defaultPath) {
      writer.wholeSource();
      return;
    }
    const isOther = plan.kind !== 'new' && plan.source.path !== defaultPath;
    const sources = isOther ? [this.#source(plan.source.path)] : [];
    await writer.content(sources, this.#operations(file, plan, 1 + sources.length));
  }

  /** Outside of an entry. */
  async stream({ file, plan }: PlannedFile): Promise<void> {
    const sources = plan.kind === 'new' ? [] : [this.#source(plan.source.path)];
    const operations = this.#operations(file, plan, sources.length);
    await this.#context.writer.stream(file.size, sources, operations);
  }

  #source(path: string): ContentSource {
    const index = this.#context.headers.at(path);
    return index === undefined ? { kind: 'file', path } : { kind: 'entry', index };
  }

  /** The operations of a content; the last of `sources` in the table is the plan's. */
  async *#operations(
    file: TargetFile,
    plan: FilePlan,
    sources: number,
  ): AsyncGenerator<ContentChunk, void, void> {
    const out = new ContentWriter(sources);
    if (plan.kind === 'same') out.copy(sources - 1, 0, file.size);
    let done = 0;
    if (plan.kind === 'similar') {
      const { matches } = plan;
      for (let i = 0; i < matches.length; i += 3) {
        const oldAt = matches[i] ?? 0;
        const newAt = matches[i + 1] ?? 0;
        const length = matches[i + 2] ?? 0;
        yield* this.#literal(out, file.offset + done, file.offset + newAt);
        const from = { source: sources - 1, start: plan.source.content.offset, oldAt };
        yield* this.#match(out, from, file.offset + newAt, length);
        done = newAt + length;
      }
    }
    if (plan.kind !== 'same') {
      yield* this.#literal(out, file.offset + done, file.offset + file.size);
    }
    yield* out.finish();
  }

  *#literal(out: ContentWriter, start: number, end: number): Generator<ContentChunk, void, void> {
    for (let at = start; at < end; at += CHUNK) {
      const bytes = this.#new.subarray(0, Math.min(CHUNK, end - at));
      this.#context.layer.spool.read(bytes, at);
      out.literal(bytes);
      yield* out.takeFull();
    }
  }

  *#match(
    out: ContentWriter,
    from: { readonly source: number; readonly start: number; readonly oldAt: number },
    newAt: number,
    length: number,
  ): Generator<ContentChunk, void, void> {
    const { source, start, oldAt } = from;
    for (let done = 0; done < length; done += CHUNK) {
      const count = Math.min(CHUNK, length - done);
      const old = this.#old.subarray(0, count);
      const fresh = this.#new.subarray(0, count);
      this.#context.store.spool.read(old, start + oldAt + done);
      this.#context.layer.spool.read(fresh, newAt + done);
      out.add(source, oldAt + done, old, fresh);
      yield* out.takeFull();
    }
  }
}

async function* piecesOf(spool: SpoolFile): AsyncGenerator<Piece, void, void> {
  const buffer = Buffer.allocUnsafe(CHUNK);
  for (let at = 0; at < spool.size; at += CHUNK) {
    const bytes = buffer.subarray(0, Math.min(CHUNK, spool.size - at));
    spool.read(bytes, at);
    yield { bytes };
  }
}
