import { createHash } from 'node:crypto';
import { SimpleContent } from './simple-content.ts';
import { SimpleEntries } from './simple-entries.ts';
import { Bytes, type Header, readHeader, readSegments, type Segment } from './simple-segments.ts';
import { positive, type SimpleSource, SimpleState } from './simple-state.ts';
import { facts, join, padding } from './simple-tar.ts';

/**
 * A second reader of layer deltas, written from shared/delta/FORMAT.md alone and sharing no code
 * with the real one. It holds everything in memory and is slow; where the two disagree, one of them
 * or the document is wrong.
 * Gives the tar stream, or an Error.
 */
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

/** Carries out one command after another (FORMAT.md section 5). */
class Applier {
  readonly segments: Segment[];
  readonly state: SimpleState;
  readonly entries: SimpleEntries;
  readonly content: SimpleContent;
  next = 0;
  out: Buffer[] = [];

  constructor(header: Header, segments: Segment[], source: SimpleSource) {
    this.segments = segments;
    this.state = new SimpleState(header, source);
    this.entries = new SimpleEntries(this.state);
    this.content = new SimpleContent(this.state, () => this.segment(true));
  }

  segment(insideCommand: boolean): boolean {
    const segment = this.segments[this.next++];
    this.state.open(segment?.streams ?? []);
    if (segment === undefined) return false;
    const { checkpoint } = segment;
    if (this.next === 1 && (checkpoint?.output !== 0 || checkpoint.pointer !== 0)) {
      throw new Error('start');
    }
    if (checkpoint === undefined) return true;
    const done = this.out.reduce((sum, part) => sum + part.length, 0);
    if (insideCommand || checkpoint.output !== done) throw new Error('checkpoint');
    if (this.state.parts.some((part) => part !== undefined)) throw new Error('living part');
    this.state.parts = [];
    this.state.recipes = [];
    this.entries.reset();
    this.state.move(checkpoint.pointer);
    return true;
  }

  run(): Buffer {
    if (this.segments.length === 0) throw new Error('no segment');
    while (this.segment(false)) {
      while (this.state.stream(0).at < this.state.stream(0).all.length) this.command();
    }
    return Buffer.concat(this.out);
  }

  command(): void {
    const c = this.state.stream(0);
    const code = c.byte();
    if (code === 0) {
      const count = c.number();
      if (count === 0) throw new Error('empty KEEP');
      for (let i = 0; i < count; i += 1) this.keep();
    } else if (code === 1) this.state.move(this.state.pointer + c.signed());
    else if (code === 2) this.entry();
    else if (code === 3) this.out.push(this.content.operations(positive(c.number())));
    else if (code === 4) {
      const size = positive(c.number());
      this.state.room(size);
      const made = this.content.operations(size);
      this.state.parts.push({ size, make: () => made });
    } else if (code === 5) this.unpack();
    else if (code === 6) this.encode();
    else if (code === 7) {
      const part = this.state.parts.length - c.number();
      if (this.state.parts[part] === undefined) throw new Error('free');
      this.state.parts[part] = undefined;
    } else throw new Error('command');
  }

  keep(): void {
    const { records, padding } = this.state.entryAt(this.state.pointer);
    const { path, size } = facts(records);
    this.out.push(join(records));
    if (size > 0) this.out.push(this.state.file(path, size), padding);
    this.state.pointer += 1;
  }

  entry(): void {
    const { records, reference } = this.entries.read();
    this.out.push(join(records));
    const { path, size } = facts(records);
    if (size === 0) return;
    const from = reference === undefined ? path : facts(reference.records).path;
    const content = this.state.stream(0).byte();
    if (content === 0) this.out.push(this.state.file(from, size));
    else if (content === 1) this.out.push(this.content.operations(size, from));
    else throw new Error('content');
    this.out.push(Buffer.alloc(padding(size)));
  }

  unpack(): void {
    const c = this.state.stream(0);
    const kind = c.byte();
    let from: Buffer;
    if (kind === 0) from = this.state.file(this.state.path());
    else if (kind === 1) {
      from = this.state.file(
        facts(this.state.entryAt(this.state.pointer + c.signed()).records).path,
      );
    } else if (kind === 2) from = this.state.part(c.number());
    else throw new Error('from');
    const offset = c.number();
    const length = positive(c.number());
    const method = c.byte();
    const size = positive(c.number());
    if (offset + length > from.length) throw new Error('outside of the source');
    this.state.room(size);
    const make = () => {
      const part = this.state.source.unpack?.(method, from.subarray(offset, offset + length));
      if (part?.length !== size) throw new Error('unpacked size');
      return part;
    };
    this.state.parts.push({ size, make });
  }

  encode(): void {
    const c = this.state.stream(0);
    const content = this.state.part(c.number());
    const k = c.number();
    if (k === 0) {
      const length = c.number();
      const before = this.state.recipes.reduce((sum, recipe) => sum + recipe.length, 0);
      if (length === 0 || length > 65536 || before + length > 1048576) throw new Error('recipe');
      this.state.recipes.push(this.state.stream(7).take(length));
    }
    const recipe = this.state.recipes[k === 0 ? this.state.recipes.length - 1 : k - 1];
    if (recipe === undefined) throw new Error('no such recipe');
    const size = positive(c.number());
    this.state.room(size);
    const make = () => {
      const part = this.state.source.encode?.(recipe, content);
      if (part?.length !== size) throw new Error('encoded size');
      return part;
    };
    this.state.parts.push({ size, make });
  }
}
