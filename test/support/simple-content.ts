import { simpleUnfilter } from './simple-filter.ts';
import { type AddressMap, type Interval, predict } from './simple-prediction.ts';
import { positive, type SimpleState } from './simple-state.ts';
import { facts } from './simple-tar.ts';

type Source = { read: () => Buffer; position: number; map?: AddressMap };

/** Content by operations for the simple reader of layer deltas (FORMAT.md section 6). */
export class SimpleContent {
  readonly state: SimpleState;
  /** Goes on to the next segment inside a command; false when there is none. */
  readonly nextSegment: () => boolean;
  mode = 0;
  filter = 0;

  constructor(state: SimpleState, nextSegment: () => boolean) {
    this.state = state;
    this.nextSegment = nextSegment;
  }

  operations(size: number, defaultPath?: string): Buffer {
    const made: Buffer[] = [];
    const table: Source[] = [];
    if (defaultPath !== undefined)
      table.push({ read: () => this.state.file(defaultPath), position: 0 });
    let current = table[0];
    this.mode = 0;
    this.filter = 0;
    for (let left = size; left > 0; ) {
      if (this.state.stream(1).at === this.state.stream(1).all.length) {
        if (!this.nextSegment()) throw new Error('ends inside a command');
        continue;
      }
      const code = this.state.stream(1).byte();
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
    const value = this.state.stream(0).number();
    if (value > (code === 10 ? 5 : 2)) throw new Error('mode or filter');
    if (code === 10) this.mode = value;
    else this.filter = value;
  }

  newSource(code: number, table: Source[]): Source {
    const c = this.state.stream(0);
    if (code === 8) {
      const found = table[c.number()];
      if (found === undefined) throw new Error('no such source');
      return found;
    }
    if (table.length === 4096) throw new Error('too many sources');
    let bytes: Buffer;
    if (code === 5) bytes = this.state.file(this.state.path());
    else if (code === 6) {
      bytes = this.state.file(
        facts(this.state.entryAt(this.state.pointer + c.signed()).records).path,
      );
    } else if (code === 7) bytes = this.state.part(c.number());
    else throw new Error('operation');
    const added = { read: () => bytes, position: 0 };
    table.push(added);
    return added;
  }

  readMap(): AddressMap {
    const c = this.state.stream(0);
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
        start: before.start + this.state.stream(2).number(),
        shift: before.shift + this.state.stream(3).signed(),
      });
    }
    return { source, content, intervals };
  }

  data(code: number, left: number, current: Source | undefined, made: number): Buffer {
    const length = positive(this.state.stream(2).number());
    if (length > left) throw new Error('too long');
    if (code === 4) {
      if (current !== undefined) current.position += length;
      const bytes = this.state.stream(6).take(length);
      if (this.filter === 0) return bytes;
      if (length > 65536) throw new Error('filtered too much');
      return simpleUnfilter(this.filter, bytes, made);
    }
    if (current === undefined) throw new Error('no source');
    if (code === 1 || code === 3) current.position += this.state.stream(3).signed();
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
      at += this.state.stream(4).number();
      if (at > bytes.length) throw new Error('run');
      if (at === bytes.length) return;
      const count = positive(this.state.stream(4).number());
      if (at + count > bytes.length) throw new Error('run');
      for (const difference of this.state.stream(5).take(count)) {
        bytes[at] = ((bytes[at] as number) + difference) % 256;
        at += 1;
      }
    }
  }
}
