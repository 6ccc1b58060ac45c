import { baseName } from './entry-path.ts';
import type { OpenedPart, OpenedStream, SpooledStretch } from './open-packed.ts';
import type { Source } from './source-choice.ts';

/** What a content is like: the content of a compressed stream of a source file, or such a file. */
export type Base = {
  readonly path: string;
  /** The stream, when it is one: bytes of the source file. */
  readonly stream?: OpenedStream;
  readonly spooled: SpooledStretch;
};

/** A base, and the stretch of it that is worth a look. */
export type Place = { readonly base: Base; readonly within: SpooledStretch };

/** So many parts without a counterpart are compared with something: each has that indexed anew. */
const MAX_GUESSES = 8;
/** How far from its place a small run is looked for, at least, in bytes. */
const MIN_REACH = 64 * 1024;

/**
 * What the parts of an opened file are like, one after the other: streams are like those of the same
 * name in the source's archive, or in the same place among its streams, and runs between them like what
 * stands around the same place. An archive may have thousands of parts, so none is compared with all of
 * the source.
 */
export class Bases {
  readonly #whole: Base;
  readonly #streams: readonly OpenedStream[];
  /** Also by the last part alone: folders of an archive tell the version of the kernel. */
  readonly #byName = new Map<string, OpenedStream>();
  #place = 0;
  #guesses = 0;
  /** Where the source's counterpart of the last part ends, in bytes. */
  #near = 0;

  /** `sourceParts` is what the source was opened to, `spoolPath` the file that the source stands in. */
  constructor(source: Source, sourceParts: readonly OpenedPart[] | undefined, spoolPath: string) {
    const { path, content } = source;
    const spooled = { file: spoolPath, offset: content.offset, size: content.size };
    this.#whole = { path, spooled };
    this.#streams = (sourceParts ?? []).filter((part) => part.kind === 'packed');
    for (const stream of this.#streams.toReversed()) {
      if (stream.name === undefined) continue;
      this.#byName.set(baseName(stream.name), stream);
    }
    for (const stream of this.#streams) {
      if (stream.name !== undefined) this.#byName.set(stream.name, stream);
    }
  }

  /** What the next part is like; undefined for nothing. */
  next(part: OpenedPart): Place | undefined {
    if (part.kind === 'raw') return { base: this.#whole, within: this.#around(part.size) };
    const stream = this.#counterpart(part);
    this.#place += 1;
    if (stream !== undefined) {
      this.#near = stream.offset + stream.size;
      const base = { path: this.#whole.path, stream, spooled: stream.content };
      return { base, within: stream.content };
    }
    if (this.#guesses++ >= MAX_GUESSES) return undefined;
    const [first] = this.#streams;
    if (first === undefined) return { base: this.#whole, within: this.#whole.spooled };
    const base = { path: this.#whole.path, stream: first, spooled: first.content };
    return { base, within: first.content };
  }

  #counterpart({ name }: OpenedStream): OpenedStream | undefined {
    const named =
      name === undefined ? undefined : (this.#byName.get(name) ?? this.#byName.get(baseName(name)));
    return named ?? this.#streams[this.#place];
  }

  #around(size: number): SpooledStretch {
    const { spooled } = this.#whole;
    const reach = Math.max(MIN_REACH, 4 * size);
    const from = Math.min(spooled.size, Math.max(0, this.#near - reach));
    const to = Math.min(spooled.size, this.#near + size + reach);
    return { file: spooled.file, offset: spooled.offset + from, size: to - from };
  }
}
