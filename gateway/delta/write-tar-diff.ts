import type { TarDiffWriter } from '../../shared/delta/tar-diff-writer.ts';
import type { FilePlan } from './file-plans.ts';
import type { SourceStore } from './source-store.ts';
import type { TargetFile, TargetLayer } from './target-layer.ts';

/**
 * Equal bytes in a row from which on COPY is written. Shorter runs stay in ADDDATA as zeros: those
 * pack to less than a COPY and another ADDDATA would.
 */
const MIN_COPY = 1024;
/** Most bytes read at a time, and the longest ADDDATA. */
const CHUNK = 1024 * 1024;

/** Writes a layer as operations of tar-diff. `onProgress` takes the place in the tar stream. */
export async function writeTarDiff(
  layer: TargetLayer,
  store: SourceStore,
  plans: AsyncIterable<FilePlan>,
  writer: TarDiffWriter,
  onProgress: (position: number) => void,
): Promise<void> {
  const out = new LayerWriter(layer, store, writer);
  let position = 0;
  let next = 0;
  for await (const plan of plans) {
    const file = layer.files.at(next) as TargetFile;
    next += 1;
    if (plan.kind === 'new') continue;
    await out.data(position, file.offset);
    await out.file(file, plan);
    position = file.offset + file.size;
    onProgress(position);
  }
  await out.data(position, layer.spool.size);
}

class LayerWriter {
  readonly #layer: TargetLayer;
  readonly #store: SourceStore;
  readonly #writer: TarDiffWriter;
  readonly #old = Buffer.allocUnsafe(CHUNK);
  readonly #new = Buffer.allocUnsafe(CHUNK);

  constructor(layer: TargetLayer, store: SourceStore, writer: TarDiffWriter) {
    this.#layer = layer;
    this.#store = store;
    this.#writer = writer;
  }

  /** Sends a stretch of the tar stream as it is. */
  async data(start: number, end: number): Promise<void> {
    for (let at = start; at < end; at += CHUNK) {
      const bytes = this.#new.subarray(0, Math.min(CHUNK, end - at));
      this.#layer.spool.read(bytes, at);
      await this.#writer.data(bytes);
    }
  }

  async file(file: TargetFile, plan: Exclude<FilePlan, { kind: 'new' }>): Promise<void> {
    if (plan.kind === 'same') {
      await this.#writer.open(plan.source.path);
      return this.#writer.copy(0, file.size);
    }
    const { matches, source } = plan;
    const start = source.content.offset;
    let done = 0;
    for (let i = 0; i < matches.length; i += 3) {
      const [oldAt, newAt, length] = matches.subarray(i, i + 3) as unknown as [
        number,
        number,
        number,
      ];
      await this.data(file.offset + done, file.offset + newAt);
      await this.#writer.open(source.path);
      await this.#match(start, oldAt, file.offset + newAt, length);
      done = newAt + length;
    }
    await this.data(file.offset + done, file.offset + file.size);
  }

  /** Sends `length` bytes as differences; `oldAt` counts from the source file's start. */
  async #match(start: number, oldAt: number, newAt: number, length: number): Promise<void> {
    for (let done = 0; done < length; done += CHUNK) {
      const count = Math.min(CHUNK, length - done);
      const old = this.#old.subarray(0, count);
      const difference = this.#new.subarray(0, count);
      this.#store.spool.read(old, start + oldAt + done);
      this.#layer.spool.read(difference, newAt + done);
      for (let i = 0; i < count; i += 1) {
        difference[i] = (difference[i] as number) - (old[i] as number);
      }
      await this.#differences(oldAt + done, difference);
    }
  }

  async #differences(oldAt: number, difference: Buffer): Promise<void> {
    let sent = 0;
    for (let at = 0; at < difference.length; ) {
      if (difference[at] !== 0) {
        at += 1;
        continue;
      }
      const start = at;
      while (at < difference.length && difference[at] === 0) at += 1;
      if (at - start < MIN_COPY) continue;
      await this.#writer.addData(oldAt + sent, difference.subarray(sent, start));
      await this.#writer.copy(oldAt + start, at - start);
      sent = at;
    }
    await this.#writer.addData(oldAt + sent, difference.subarray(sent));
  }
}
