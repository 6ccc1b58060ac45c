import { Bytes, type Header } from './simple-segments.ts';
import { type Entry, splitEntries } from './simple-tar.ts';

/** Made when it is first read. */
export type Part = { size: number; make: () => Buffer };

/** What the simple reader reads besides the delta, and the codecs that it is lent. */
export type SimpleSource = {
  /** Files of the source tree by path, one byte a character. */
  readonly files: Readonly<Record<string, Buffer>>;
  /** Header streams by the hex digits of the diff_id. */
  readonly headers?: Readonly<Record<string, Buffer>>;
  readonly unpack?: (method: number, packed: Buffer) => Buffer;
  readonly encode?: (recipe: Buffer, content: Buffer) => Buffer;
};

/** What commands of every kind look at and change in the simple reader (FORMAT.md section 5). */
export class SimpleState {
  readonly header: Header;
  readonly source: SimpleSource;
  readonly entries: Entry[];
  s: Bytes[] = [];
  pointer = 0;
  parts: (Part | undefined)[] = [];
  recipes: Buffer[] = [];

  constructor(header: Header, source: SimpleSource) {
    this.header = header;
    this.source = source;
    this.entries = header.layers.flatMap((layer) => {
      const stream = source.headers?.[layer];
      if (stream === undefined) throw new Error('no headers');
      return splitEntries(stream);
    });
  }

  /** Goes on to the streams of the next segment; those of the last one must have been read up. */
  open(streams: readonly Buffer[]): void {
    if (this.s.some((stream) => stream.at !== stream.all.length)) throw new Error('left over');
    this.s = streams.map((bytes) => new Bytes(bytes));
  }

  stream(i: number): Bytes {
    return this.s[i] as Bytes;
  }

  move(to: number): void {
    if (to < 0 || to > this.entries.length) throw new Error('pointer');
    this.pointer = to;
  }

  entryAt(i: number): Entry {
    const entry = this.entries[i];
    if (entry === undefined) throw new Error('no such entry');
    return entry;
  }

  file(path: string, size?: number): Buffer {
    const bytes = this.source.files[path];
    if (bytes === undefined) throw new Error(`no file ${path}`);
    if (size !== undefined && bytes.length !== size) throw new Error('other size');
    return bytes;
  }

  part(age: number): Buffer {
    return this.living(age).make();
  }

  living(age: number): Part {
    const part = this.parts[this.parts.length - age];
    if (part === undefined) throw new Error('no such part');
    return part;
  }

  /** Whether there is room for one more part. */
  room(size: number): void {
    const living = this.parts.filter((part) => part !== undefined);
    const [, bytes = 0, count = 0] = this.header.limits;
    const used = living.reduce((sum, part) => sum + part.size, 0);
    if (used + size > bytes || living.length >= count) throw new Error('too many parts');
  }

  path(): string {
    const length = this.stream(0).number();
    if (length === 0 || length > 4096) throw new Error('path');
    const path = this.stream(7).take(length).toString('latin1');
    if (path.includes('\0') || path.split('/').some((part) => ['', '.', '..'].includes(part))) {
      throw new Error('path');
    }
    return path;
  }
}

export function positive(n: number): number {
  if (n === 0) throw new Error('zero');
  return n;
}
