import { BLOCK_KIND } from '../block.ts';
import { LITERALS_KIND } from '../entropy/literals.ts';
import { MAX_SEQUENCES } from '../entropy/sequences.ts';
import { type BlockParse, NOTHING, setSize } from './block-parse.ts';

/**
 * The bytes that parses are written in (`shared/delta/FORMAT.md`, section 8.1). Each sequence has six
 * bytes, whatever it says, so that the parses of two versions of a content differ in few places.
 */
export type BlockRecord = {
  kind: number;
  isLast: boolean;
  /** Bytes of content, of a block that is not compressed. */
  size: number;
  readonly parse: BlockParse;
};

/** Says of the kind of block that it is the last one. */
const LAST = 4;
const LONG = 255;
const SEQUENCE_BYTES = 6;
/** Most bytes of a record before its sequences, and of one sequence. */
export const MAX_HEAD = 1024;
export const MAX_SEQUENCE = SEQUENCE_BYTES + 8;

/** Writes a record. */
export function formatRecord({ kind, isLast, size, parse }: BlockRecord): Uint8Array {
  const bytes = new RecordBytes(MAX_HEAD + MAX_SEQUENCE * parse.sequences.size);
  bytes.byte(kind + (isLast ? LAST : 0));
  if (kind !== BLOCK_KIND.COMPRESSED) {
    bytes.number(size);
    return bytes.done();
  }
  const { sequences, tail } = parse;
  bytes.byte(parse.literalsKind + 4 * parse.literalsFormat);
  bytes.number(sequences.size);
  bytes.number(tail);
  if (parse.literalsKind === LITERALS_KIND.COMPRESSED) bytes.run(parse.tree);
  if (sequences.size > 0) {
    bytes.byte(parse.tableKinds);
    bytes.run(parse.tables);
  }
  for (let i = 0; i < sequences.size; i++) {
    const literals = sequences.literalLengths[i] as number;
    const match = sequences.matchLengths[i] as number;
    bytes.byte(Math.min(literals, LONG));
    bytes.byte(Math.min(match, LONG));
    bytes.word(sequences.offsets[i] as number);
    if (literals >= LONG) bytes.number(literals - LONG);
    if (match >= LONG) bytes.number(match - LONG);
  }
  return bytes.done();
}

class RecordBytes {
  readonly #bytes: Uint8Array;
  #size = 0;

  constructor(room: number) {
    this.#bytes = new Uint8Array(room);
  }

  byte(value: number): void {
    this.#bytes[this.#size++] = value;
  }

  word(value: number): void {
    for (let shift = 0; shift < 32; shift += 8) this.byte(value >>> shift);
  }

  number(value: number): void {
    let left = value;
    for (; left >= 0x80; left >>>= 7) this.byte((left & 0x7f) | 0x80);
    this.byte(left);
  }

  run(bytes: Uint8Array): void {
    this.number(bytes.length);
    this.#bytes.set(bytes, this.#size);
    this.#size += bytes.length;
  }

  done(): Uint8Array {
    return this.#bytes.subarray(0, this.#size);
  }
}

/** Bytes at hand, and what becomes of it when they are not enough. */
export type RecordSource = { byte(): number; take(size: number): Uint8Array; invalid(): Error };

/** Reads all of a record before its sequences, whose number it sets. */
export function readHead(source: RecordSource, record: BlockRecord): void {
  const { parse } = record;
  const first = source.byte();
  record.kind = first & 3;
  record.isLast = (first & LAST) !== 0;
  parse.sequences.size = 0;
  if (first > 2 + LAST || record.kind > BLOCK_KIND.COMPRESSED) throw source.invalid();
  if (record.kind !== BLOCK_KIND.COMPRESSED) {
    record.size = readNumber(source);
    return;
  }
  const literals = source.byte();
  parse.literalsKind = literals & 3;
  parse.literalsFormat = literals >> 2;
  if (literals > 15) throw source.invalid();
  const count = readNumber(source);
  parse.tail = readNumber(source);
  parse.tree = parse.literalsKind === LITERALS_KIND.COMPRESSED ? readRun(source) : NOTHING;
  parse.tableKinds = count > 0 ? source.byte() : 0;
  parse.tables = count > 0 ? readRun(source) : NOTHING;
  if (count > MAX_SEQUENCES) throw source.invalid();
  setSize(parse, count);
}

/** Reads the sequences of a record. */
export function readSequences(source: RecordSource, { sequences }: BlockParse): void {
  const { size, literalLengths, offsets, matchLengths } = sequences;
  for (let i = 0; i < size; i++) {
    const literals = source.byte();
    const match = source.byte();
    offsets[i] =
      source.byte() | (source.byte() << 8) | (source.byte() << 16) | (source.byte() << 24);
    literalLengths[i] = literals === LONG ? LONG + readNumber(source) : literals;
    matchLengths[i] = match === LONG ? LONG + readNumber(source) : match;
    if (offsets[i] === 0) throw source.invalid();
  }
}

/** At most 28 bits: nothing here is larger than a block. */
function readNumber(source: RecordSource): number {
  let value = 0;
  for (let shift = 0; shift < 28; shift += 7) {
    const byte = source.byte();
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return value;
  }
  throw source.invalid();
}

function readRun(source: RecordSource): Uint8Array {
  const size = readNumber(source);
  if (size > MAX_HEAD) throw source.invalid();
  return source.take(size);
}
