import { splitRecords } from '../../shared/delta/layer-delta/entry-writer.ts';
import type { SourceEntry } from '../../shared/delta/layer-delta/source-entries.ts';
import { paddingOf } from '../../shared/delta/layer-delta/tar-records.ts';
import type { LayerDeltaWriter } from '../../shared/delta/layer-delta/writer.ts';
import type { Piece } from '../../shared/delta/piece.ts';
import { readTar, type TarLimits } from '../../shared/tar/reader.ts';
import type { OwnPlan, OwnPlans } from './own-plans.ts';
import type { ProvedEncodings } from './proved-encodings.ts';
import { type HeaderReferences, sameHeaders } from './source-headers.ts';
import type { SourceStore } from './source-store.ts';
import type { SpoolFile } from './spool-file.ts';
import type { TargetFile, TargetLayer } from './target-layer.ts';
import { ContentWork } from './write-contents.ts';

/** Most bytes read at a time. */
const CHUNK = 1024 * 1024;

/** What writing a layer takes. */
export type LayerContext = {
  readonly layer: TargetLayer;
  readonly store: SourceStore;
  readonly headers: HeaderReferences;
  readonly writer: LayerDeltaWriter;
  readonly plans: OwnPlans;
  /** Takes what encoders were seen to make. */
  readonly proved: ProvedEncodings;
  readonly tarLimits: TarLimits;
  readonly checkpoints?: CheckpointSpacing | undefined;
  /** Takes the place in the tar stream. */
  readonly onProgress: (position: number) => void;
};

/** How far checkpoints are apart at least: bytes of the tar stream, and of the delta, unpacked. */
export type CheckpointSpacing = { readonly outputBytes: number; readonly deltaBytes: number };

/**
 * A checkpoint costs about 20 kB, which is what the coders have to learn anew: of a delta of 7.7 MB,
 * a quarter of a percent. What brings next to nothing new has none.
 */
const SPACING: CheckpointSpacing = {
  outputBytes: 256 * 1024 * 1024,
  deltaBytes: 16 * 1024 * 1024,
};

/** Writes a layer in the project's own format. */
export async function writeLayerDelta(context: LayerContext): Promise<void> {
  const entries = new EntryWork(context);
  try {
    await writeEntries(context, entries);
  } finally {
    entries.close();
  }
}

async function writeEntries(context: LayerContext, entries: EntryWork): Promise<void> {
  const { layer, writer, plans, tarLimits, onProgress } = context;
  const checkpoints = new Checkpoints(context, entries);
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
    await checkpoints.at(position);
    position += event.raw.length;
    const file = layer.files.at(next);
    if (file?.offset !== position || file.size !== event.entry.size) {
      await entries.entry(event.raw, event.entry.path);
      continue;
    }
    const planned = { index: next, file, plan: await plans.next(next) };
    await entries.entry(event.raw, event.entry.path, planned);
    plans.release(next);
    next += 1;
    onProgress(position);
  }
  entries.flush();
}

/** Sets checkpoints where they are far enough apart. */
class Checkpoints {
  readonly #context: LayerContext;
  readonly #entries: EntryWork;
  #last = 0;

  constructor(context: LayerContext, entries: EntryWork) {
    this.#context = context;
    this.#entries = entries;
  }

  /** Between two entries, at a place in the tar stream. */
  async at(position: number): Promise<void> {
    const { writer, checkpoints = SPACING } = this.#context;
    if (position - this.#last < checkpoints.outputBytes) return;
    if (writer.sinceCheckpoint < checkpoints.deltaBytes) return;
    this.#entries.flush();
    await writer.checkpoint(position);
    this.#last = position;
  }
}

/** A file of the layer by its number, with its plan. */
export type PlannedFile = {
  readonly index: number;
  readonly file: TargetFile;
  readonly plan: OwnPlan;
};
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

  close(): void {
    this.#contents.close();
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
    const content = planned && (await this.#contents.prepare(planned));
    const records = isPlain ? splitRecords(raw) : undefined;
    if (records !== undefined && writer.entry(records, reference)) {
      if (content === undefined) return;
      await this.#contents.entry(content, reference?.entry.facts.path ?? path);
      return;
    }
    await writer.literal(raw);
    if (planned === undefined || content === undefined) return;
    await this.#contents.stream(content);
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
  #reference(path: string, plan: OwnPlan | undefined): Reference | undefined {
    const { headers, writer } = this.#context;
    const source = plan && sourcePath(plan);
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
    const { store } = this.#context;
    const held = store.fileAt(entry.facts.path);
    const { facts, size } = planned.file;
    if (held === undefined || !isPlainPadding(entry.padding, size)) return false;
    return store.contents.digest(store.contentOf(held)) === facts.sha256;
  }

  /** What follows the content; a layer may end before it does. */
  #padding({ offset, size }: TargetFile): Buffer {
    const { spool } = this.#context.layer;
    const end = offset + size;
    const padding = Buffer.alloc(Math.min(paddingOf(size), spool.size - end));
    spool.read(padding, end);
    return padding;
  }

  #hasPlainPadding(file: TargetFile): boolean {
    return isPlainPadding(this.#padding(file), file.size);
  }
}

function isPlainPadding(padding: Uint8Array, size: number): boolean {
  return padding.length === paddingOf(size) && padding.every((byte) => byte === 0);
}

/** The file of the source that a file is made of, if there is one. */
function sourcePath(plan: OwnPlan): string | undefined {
  if (plan.kind === 'opened') return plan.parts.find((part) => part.like)?.like?.base.path;
  return plan.kind === 'new' ? undefined : plan.source.path;
}

async function* piecesOf(spool: SpoolFile): AsyncGenerator<Piece, void, void> {
  const buffer = Buffer.allocUnsafe(CHUNK);
  for (let at = 0; at < spool.size; at += CHUNK) {
    const bytes = buffer.subarray(0, Math.min(CHUNK, spool.size - at));
    spool.read(bytes, at);
    yield { bytes };
  }
}
