import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestHex, sha256 as digestOf } from '../../shared/digest.ts';
import type { ContentFacts } from './describe.ts';

/** Raised when facts come to mean something else. */
const VERSION = 1;
const DEFAULT_MAX_BYTES = 256 * 1024 * 1024;

/** What is known of a layer's contents, by their place among the regular files that have any. */
export type LayerFacts = ReadonlyMap<number, ContentFacts>;

/**
 * What the files of layers are like, kept in a folder by the layer's diff_id, so that it is found out
 * once for all deltas that a layer takes part in. What is damaged or too old counts as absent; the
 * layers used longest ago go first when it becomes too much.
 */
export class ContentIndex {
  readonly #folder: string;
  readonly #maxBytes: number;

  /** `maxBytes` is the most that the folder's files may have together. */
  constructor(folder: string, maxBytes = DEFAULT_MAX_BYTES) {
    this.#folder = folder;
    this.#maxBytes = maxBytes;
  }

  async get(diffId: Digest): Promise<LayerFacts> {
    const rows = await this.#read(this.#path(diffId), VERSION);
    return rows === undefined ? new Map() : factsOf(rows as Row[]);
  }

  /** Keeps all that is known of a layer. A folder that cannot be written only costs time. */
  async put(diffId: Digest, facts: LayerFacts): Promise<void> {
    await this.#write(this.#path(diffId), VERSION, rowsOf(facts));
  }

  /** What {@link putNotes} kept of a layer under the same version; undefined when it is not there. */
  getNotes(diffId: Digest, version: string): Promise<unknown> {
    return this.#read(`${this.#path(diffId)}.notes`, version);
  }

  /** Keeps what else is known of a layer: anything that JSON can say. */
  async putNotes(diffId: Digest, version: string, notes: unknown): Promise<void> {
    await this.#write(`${this.#path(diffId)}.notes`, version, notes);
  }

  #path(diffId: Digest): string {
    return join(this.#folder, digestHex(diffId));
  }

  async #read(path: string, version: Version): Promise<unknown> {
    const bytes = await readFile(path).catch(() => undefined);
    const content = bytes === undefined ? undefined : decode(bytes, version);
    if (content === undefined) return undefined;
    const now = new Date();
    await utimes(path, now, now).catch(() => {});
    return content;
  }

  async #write(path: string, version: Version, content: unknown): Promise<void> {
    const part = `${path}.${process.pid}-${Math.random().toString(36).slice(2)}`;
    try {
      await mkdir(this.#folder, { recursive: true, mode: 0o700 });
      await writeFile(part, encode(version, content), { mode: 0o600 });
      await rename(part, path);
      await this.#shrink();
    } catch {
      await rm(part, { force: true });
    }
  }

  async #shrink(): Promise<void> {
    const names = await readdir(this.#folder);
    const files = await Promise.all(
      names.map(async (name) => {
        const path = join(this.#folder, name);
        const { size, mtimeMs } = await stat(path).catch(() => ({ size: 0, mtimeMs: 0 }));
        return { path, size, mtimeMs };
      }),
    );
    let left = files.reduce((sum, { size }) => sum + size, 0);
    for (const { path, size } of files.sort((a, b) => a.mtimeMs - b.mtimeMs)) {
      if (left <= this.#maxBytes) return;
      await rm(path, { force: true });
      left -= size;
    }
  }
}

type Version = number | string;
type Row = readonly [place: number, sha256: string, isPacked: 0 | 1, sketch: readonly number[]];

function rowsOf(facts: LayerFacts): Row[] {
  return [...facts].map(([place, { sha256, isPacked, sketch }]) => [
    ...([place, sha256, isPacked ? 1 : 0, [...sketch]] as const),
  ]);
}

function factsOf(rows: readonly Row[]): LayerFacts {
  return new Map(
    rows.map(([place, sha256, isPacked, sketch]) => [
      ...([place, { sha256, isPacked: isPacked === 1, sketch: Uint32Array.from(sketch) }] as const),
    ]),
  );
}

/** Text of version and content after the sha256 of the text. */
function encode(version: Version, content: unknown): string {
  const text = JSON.stringify([version, content]);
  return `${digestHex(digestOf(text))}\n${text}`;
}

function decode(bytes: Buffer, version: Version): unknown {
  const text = bytes.toString();
  const start = text.indexOf('\n') + 1;
  const body = text.slice(start);
  if (text.slice(0, start - 1) !== digestHex(digestOf(body))) return undefined;
  const [found, content] = JSON.parse(body) as [Version, unknown];
  return found === version ? content : undefined;
}
