import type { SimpleState } from './simple-state.ts';
import { checksummed, type Entry, octal, type Rec, typeOf, untilNul } from './simple-tar.ts';

/** The headers of entries for the simple reader of layer deltas (FORMAT.md sections 5.3 and 5.4). */
export class SimpleEntries {
  readonly state: SimpleState;
  lastRecords = new Map<string, Rec>();
  lastMtime = 0;
  substitution: { from: Buffer; to: Buffer } | undefined;

  constructor(state: SimpleState) {
    this.state = state;
  }

  /** Forgets what entries before a checkpoint were. */
  reset(): void {
    this.lastRecords = new Map();
    this.lastMtime = 0;
    this.substitution = undefined;
  }

  /** The records of the next entry, and the one that they were made from. */
  read(): { records: Rec[]; reference: Entry | undefined } {
    const c = this.state.stream(0);
    const kind = c.byte();
    if (kind > 2) throw new Error('reference');
    const at = kind === 1 ? this.state.pointer + c.signed() : this.state.pointer;
    const reference = kind === 2 ? undefined : this.state.entryAt(at);
    const { old, types } = this.shape(reference);
    const records = old.map((record, i) => this.record(record, i < old.length - 1));
    for (const [i, { block }] of records.entries()) {
      const isOwn = i === records.length - 1;
      if ('xgLK'.includes(typeOf(block)) === isOwn) throw new Error('type');
      if (!isOwn && typeOf(block) !== types[i]) throw new Error('type');
      this.lastRecords.set(isOwn ? 'own' : typeOf(block), records[i] as Rec);
    }
    this.lastMtime = octal((records.at(-1) as Rec).block, 136) ?? 0;
    if (kind !== 2) this.state.move(at + 1);
    return { records, reference };
  }

  shape(reference: Entry | undefined): { old: Rec[]; types: (string | undefined)[] } {
    const shape = this.state.stream(0).number();
    if (shape === 0) {
      if (reference === undefined) throw new Error('shape');
      const old = reference.records;
      return { old, types: old.map(({ block }) => typeOf(block)) };
    }
    if (shape > 9) throw new Error('too many');
    const blank = { block: checksummed(Buffer.alloc(512)), data: Buffer.alloc(0) };
    const last = (type: string) => this.lastRecords.get(type) ?? blank;
    const types = [
      ...this.state
        .stream(7)
        .take(shape - 1)
        .toString('latin1'),
    ];
    const own = reference?.records.at(-1) ?? last('own');
    return { old: [...types.map(last), own], types: [...types, undefined] };
  }

  record(old: Rec, withData: boolean): Rec {
    const c = this.state.stream(0);
    const text = this.state.stream(7);
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
    const c = this.state.stream(0);
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
      this.state.stream(7).take(middle),
      old.subarray(end),
    ]);
    if (k % 2 === 0) {
      const p = old.subarray(0, front).lastIndexOf('/') + 1;
      this.substitution = { from: old.subarray(p, end), to: fresh.subarray(p, front + middle) };
    }
    return fresh;
  }
}
