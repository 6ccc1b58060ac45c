import { createHash } from 'node:crypto';
import { simpleUnfilter } from './simple-filter.ts';
import { type AddressMap, type Interval, predict } from './simple-prediction.ts';
import { Bytes, type Header, readHeader, readSegments, type Segment } from './simple-segments.ts';
import {
  checksummed,
  type Entry,
  facts,
  join,
  octal,
  padding,
  type Rec,
  splitEntries,
  typeOf,
  untilNul,
} from './simple-tar.ts';

/**
 * A second reader of layer deltas, written from shared/delta/FORMAT.md alone and sharing no code
 * with the real one. It holds everything in memory and is slow; where the two disagree, one of them
 * or the document is wrong.
 */
export type SimpleSource = {
  /** Files of the source tree by path, one byte a character. */
  readonly files: Readonly<Record<string, Buffer>>;
  /** Header streams by the hex digits of the diff_id. */
  readonly headers?: Readonly<Record<string, Buffer>>;
  readonly unpack?: (method: number, packed: Buffer) => Buffer;
  readonly encode?: (recipe: Buffer, content: Buffer) => Buffer;
};

/** Made when it is first read. */
type Part = { size: number; make: () => Buffer };
type Source = { read: () => Buffer; position: number; map?: AddressMap };

/** The tar stream, or an Error. */
export function simpleApply(delta: Buffer, source: SimpleSource): Buffer {
  const input = new Bytes(delta);
  if (input.take(8).toString() !== 'sgdelta1') throw new Error('magic');
  const header = readHeader(new Bytes(input.take(input.number())));
  const segments = readSegments(input, header);
  const out = new Applier(header, segments, source).run();
  if (out.length !== header.size) throw new Error('size');
  if (createHash('sha256').update(out).digest('hex') !== header.digest) throw new Error('digest');
  return out;
}

class Applier {
  readonly header: Header;
  readonly segments: Segment[];
  readonly source: SimpleSource;
  readonly entries: Entry[];
  s: Bytes[] = [];
  next = 0;
  out: Buffer[] = [];
  pointer = 0;
  parts: (Part | undefined)[] = [];
  recipes: Buffer[] = [];
  mode = 0;
  filter = 0;
  lastRecords = new Map<string, Rec>();
  lastMtime = 0;
  substitution: { from: Buffer; to: Buffer } | undefined;

  constructor(header: Header, segments: Segment[], source: SimpleSource) {
    this.header = header;
    this.segments = segments;
    this.source = source;
    this.entries = header.layers.flatMap((layer) => {
      const stream = source.headers?.[layer];
      if (stream === undefined) throw new Error('no headers');
      return splitEntries(stream);
    });
  }

  stream(i: number): Bytes {
    return this.s[i] as Bytes;
  }

  segment(insideCommand: boolean): boolean {
    if (this.s.some((stream) => stream.at !== stream.all.length)) throw new Error('left over');
    const segment = this.segments[this.next++];
    if (segment === undefined) return false;
    this.s = segment.streams.map((bytes) => new Bytes(bytes));
    const { checkpoint } = segment;
    if (this.next === 1 && (checkpoint?.output !== 0 || checkpoint.pointer !== 0)) {
      throw new Error('start');
    }
    if (checkpoint === undefined) return true;
    const done = this.out.reduce((sum, part) => sum + part.length, 0);
    if (insideCommand || checkpoint.output !== done) throw new Error('checkpoint');
    if (this.parts.some((part) => part !== undefined)) throw new Error('living part');
    this.parts = [];
    this.recipes = [];
    this.lastRecords = new Map();
    this.lastMtime = 0;
    this.substitution = undefined;
    this.move(checkpoint.pointer);
    return true;
  }

  run(): Buffer {
    if (this.segments.length === 0) throw new Error('no segment');
    while (this.segment(false)) {
      while (this.stream(0).at < this.stream(0).all.length) this.command();
    }
    return Buffer.concat(this.out);
  }

  move(to: number): void {
    if (to < 0 || to > this.entries.length) throw new Error('pointer');
    this.pointer = to;
  }

  command(): void {
    const c = this.stream(0);
    const code = c.byte();
    if (code === 0) {
      const count = c.number();
      if (count === 0) throw new Error('empty KEEP');
      for (let i = 0; i < count; i += 1) this.keep();
    } else if (code === 1) this.move(this.pointer + c.signed());
    else if (code === 2) this.entry();
    else if (code === 3) this.out.push(this.operations(positive(c.number())));
    else if (code === 4) {
      const size = positive(c.number());
      this.room(size);
      const made = this.operations(size);
      this.parts.push({ size, make: () => made });
    } else if (code === 5) this.unpack();
    else if (code === 6) this.encode();
    else if (code === 7) {
      const part = this.parts.length - c.number();
      if (this.parts[part] === undefined) throw new Error('free');
      this.parts[part] = undefined;
    } else throw new Error('command');
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

  keep(): void {
    const { records, padding } = this.entryAt(this.pointer);
    const { path, size } = facts(records);
    this.out.push(join(records));
    if (size > 0) this.out.push(this.file(path, size), padding);
    this.pointer += 1;
  }

  entry(): void {
    const c = this.stream(0);
    const kind = c.byte();
    if (kind > 2) throw new Error('reference');
    const at = kind === 1 ? this.pointer + c.signed() : this.pointer;
    const reference = kind === 2 ? undefined : this.entryAt(at);
    const { old, types } = this.shape(reference);
    const records = old.map((record, i) => this.record(record, i < old.length - 1));
    for (const [i, { block }] of records.entries()) {
      const isOwn = i === records.length - 1;
      if ('xgLK'.includes(typeOf(block)) === isOwn) throw new Error('type');
      if (!isOwn && typeOf(block) !== types[i]) throw new Error('type');
      this.lastRecords.set(isOwn ? 'own' : typeOf(block), records[i] as Rec);
    }
    this.lastMtime = octal((records.at(-1) as Rec).block, 136) ?? 0;
    if (kind !== 2) this.move(at + 1);
    this.out.push(join(records));
    const { path, size } = facts(records);
    if (size === 0) return;
    const from = reference === undefined ? path : facts(reference.records).path;
    const content = c.byte();
    if (content === 0) this.out.push(this.file(from, size));
    else if (content === 1) this.out.push(this.operations(size, from));
    else throw new Error('content');
    this.out.push(Buffer.alloc(padding(size)));
  }

  shape(reference: Entry | undefined): { old: Rec[]; types: (string | undefined)[] } {
    const shape = this.stream(0).number();
    if (shape === 0) {
      if (reference === undefined) throw new Error('shape');
      const old = reference.records;
      return { old, types: old.map(({ block }) => typeOf(block)) };
    }
    if (shape > 9) throw new Error('too many');
    const blank = { block: checksummed(Buffer.alloc(512)), data: Buffer.alloc(0) };
    const last = (type: string) => this.lastRecords.get(type) ?? blank;
    const types = [
      ...this.stream(7)
        .take(shape - 1)
        .toString('latin1'),
    ];
    const own = reference?.records.at(-1) ?? last('own');
    return { old: [...types.map(last), own], types: [...types, undefined] };
  }

  record(old: Rec, withData: boolean): Rec {
    const c = this.stream(0);
    const text = this.stream(7);
    const bits = c.number();
    if (bits >= 65536) throw new Error('bits');
    const block = Buffer.from(old.block);
    const raw = (bit: number, at: number, length: number) => {
      if ((bits >> bit) & 1) text.take(length).copy(block, at);
    };
    const string = (bit: number, at: number, length: number) => {
      if (!((bits >> bit) & 1)) return;
      const name = this.change(untilNul(old.block.subarray(at, at + length)));
      if (name.length > length || name.includes(0)) throw new Error('name');
      block.fill(0, at, at + length);
      name.copy(block, at);
    };
    const number = (bit: number, at: number, base: number) => {
      if (!((bits >> bit) & 1)) return;
      const value = base + c.signed();
      if (value < 0 || value >= 8 ** 11) throw new Error('range');
      const end = octal(old.block, at) === undefined ? 0 : (old.block[at + 11] as number);
      block.write(value.toString(8).padStart(11, '0'), at, 'latin1');
      block[at + 11] = end;
    };
    string(0, 0, 100);
    number(1, 124, octal(old.block, 124) ?? 0);
    number(2, 136, this.lastMtime);
    raw(3, 100, 8);
    raw(4, 108, 8);
    raw(5, 116, 8);
    string(6, 157, 100);
    raw(7, 156, 1);
    raw(8, 257, 8);
    raw(9, 265, 32);
    raw(10, 297, 32);
    raw(11, 329, 8);
    raw(12, 337, 8);
    string(13, 345, 155);
    raw(14, 500, 12);
    if ((bits >> 15) & 1) text.take(8).copy(block, 148);
    else checksummed(block);
    if (!withData) return { block, data: Buffer.alloc(0) };
    const data = this.change(old.data);
    if (octal(block, 124) !== data.length || data.length > 1048576) throw new Error('data');
    return { block, data };
  }

  change(old: Buffer): Buffer {
    const c = this.stream(0);
    const k = c.number();
    if (k === 0) {
      const { from, to } = this.substitution ?? { from: Buffer.alloc(0), to: Buffer.alloc(0) };
      const at = from.length === 0 ? -1 : old.indexOf(from);
      if (at < 0) throw new Error('substitution');
      return Buffer.concat([old.subarray(0, at), to, old.subarray(at + from.length)]);
    }
    const front = Math.floor((k - 1) / 2);
    const back = c.number();
    const middle = c.number();
    if (front + back > old.length) throw new Error('change');
    const end = old.length - back;
    const fresh = Buffer.concat([
      old.subarray(0, front),
      this.stream(7).take(middle),
      old.subarray(end),
    ]);
    if (k % 2 === 0) {
      const p = old.subarray(0, front).lastIndexOf('/') + 1;
      this.substitution = { from: old.subarray(p, end), to: fresh.subarray(p, front + middle) };
    }
    return fresh;
  }

  operations(size: number, defaultPath?: string): Buffer {
    const made: Buffer[] = [];
    const table: Source[] = [];
    if (defaultPath !== undefined) table.push({ read: () => this.file(defaultPath), position: 0 });
    let current = table[0];
    this.mode = 0;
    this.filter = 0;
    for (let left = size; left > 0; ) {
      if (this.stream(1).at === this.stream(1).all.length) {
        if (!this.segment(true)) throw new Error('ends inside a command');
        continue;
      }
      const code = this.stream(1).byte();
      if (code <= 4) {
        const bytes = this.data(code, left, current, size - left);
        made.push(bytes);
        left -= bytes.length;
      } else if (code >= 9 && code <= 11) this.setting(code, current);
      else {
        current = this.newSource(code, table);
      }
    }
    return Buffer.concat(made);
  }

  setting(code: number, current: Source | undefined): void {
    if (code === 9) {
      if (current === undefined) throw new Error('no source');
      current.map = this.readMap();
      return;
    }
    const value = this.stream(0).number();
    if (value > (code === 10 ? 3 : 1)) throw new Error('mode or filter');
    if (code === 10) this.mode = value;
    else this.filter = value;
  }

  newSource(code: number, table: Source[]): Source {
    const c = this.stream(0);
    if (code === 8) {
      const found = table[c.number()];
      if (found === undefined) throw new Error('no such source');
      return found;
    }
    if (table.length === 4096) throw new Error('too many sources');
    let bytes: Buffer;
    if (code === 5) bytes = this.file(this.path());
    else if (code === 6) {
      bytes = this.file(facts(this.entryAt(this.pointer + c.signed()).records).path);
    } else if (code === 7) bytes = this.part(c.number());
    else throw new Error('operation');
    const added = { read: () => bytes, position: 0 };
    table.push(added);
    return added;
  }

  readMap(): AddressMap {
    const c = this.stream(0);
    const stretches = () => {
      const count = positive(c.number());
      if (count > 64) throw new Error('too many stretches');
      return Array.from({ length: count }, () => ({
        offset: c.number(),
        length: c.number(),
        address: c.signed(),
      }));
    };
    const [source, content] = [stretches(), stretches()];
    const count = positive(c.number());
    if (count > 262144) throw new Error('too many intervals');
    const intervals: Interval[] = [];
    for (let i = 0; i < count; i += 1) {
      const before = intervals.at(-1) ?? { start: 0, shift: 0 };
      intervals.push({
        start: before.start + this.stream(2).number(),
        shift: before.shift + this.stream(3).signed(),
      });
    }
    return { source, content, intervals };
  }

  data(code: number, left: number, current: Source | undefined, made: number): Buffer {
    const length = positive(this.stream(2).number());
    if (length > left) throw new Error('too long');
    if (code === 4) {
      if (current !== undefined) current.position += length;
      const bytes = this.stream(6).take(length);
      if (this.filter === 0) return bytes;
      if (length > 65536) throw new Error('filtered too much');
      return simpleUnfilter(bytes, made);
    }
    if (current === undefined) throw new Error('no source');
    if (code === 1 || code === 3) current.position += this.stream(3).signed();
    const from = current.read();
    if (current.position < 0 || current.position + length > from.length) {
      throw new Error('outside of the source');
    }
    const bytes = Buffer.from(from.subarray(current.position, current.position + length));
    if (code < 2 && this.mode > 0) {
      if (length > 65536 || current.map === undefined) throw new Error('prediction');
      predict(current.map, this.mode, bytes, current.position, made);
    }
    if (code < 2) this.addRuns(bytes);
    current.position += length;
    return bytes;
  }

  addRuns(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      at += this.stream(4).number();
      if (at > bytes.length) throw new Error('run');
      if (at === bytes.length) return;
      const count = positive(this.stream(4).number());
      if (at + count > bytes.length) throw new Error('run');
      for (const difference of this.stream(5).take(count)) {
        bytes[at] = ((bytes[at] as number) + difference) % 256;
        at += 1;
      }
    }
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

  unpack(): void {
    const c = this.stream(0);
    const kind = c.byte();
    let from: Buffer;
    if (kind === 0) from = this.file(this.path());
    else if (kind === 1) {
      from = this.file(facts(this.entryAt(this.pointer + c.signed()).records).path);
    } else if (kind === 2) from = this.part(c.number());
    else throw new Error('from');
    const offset = c.number();
    const length = positive(c.number());
    const method = c.byte();
    const size = positive(c.number());
    if (offset + length > from.length) throw new Error('outside of the source');
    this.room(size);
    const make = () => {
      const part = this.source.unpack?.(method, from.subarray(offset, offset + length));
      if (part?.length !== size) throw new Error('unpacked size');
      return part;
    };
    this.parts.push({ size, make });
  }

  encode(): void {
    const c = this.stream(0);
    const content = this.part(c.number());
    const k = c.number();
    if (k === 0) {
      const length = c.number();
      const before = this.recipes.reduce((sum, recipe) => sum + recipe.length, 0);
      if (length === 0 || length > 65536 || before + length > 1048576) throw new Error('recipe');
      this.recipes.push(this.stream(7).take(length));
    }
    const recipe = this.recipes[k === 0 ? this.recipes.length - 1 : k - 1];
    if (recipe === undefined) throw new Error('no such recipe');
    const size = positive(c.number());
    this.room(size);
    const make = () => {
      const part = this.source.encode?.(recipe, content);
      if (part?.length !== size) throw new Error('encoded size');
      return part;
    };
    this.parts.push({ size, make });
  }
}

function positive(n: number): number {
  if (n === 0) throw new Error('zero');
  return n;
}
