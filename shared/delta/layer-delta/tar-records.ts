import { BLOCK } from '../../tar/header.ts';
import { invalidDelta } from './bytes.ts';

/** A header block of a tar stream; extension records (`x`, `g`, `L`, `K`) have data. */
export type TarRecord = { readonly block: Uint8Array; readonly data: Uint8Array };

/** Limits of the format on one entry (FORMAT.md sections 5.3 and 5.4). */
export const MAX_EXTENSIONS = 8;
export const MAX_EXTENSION_DATA = 1024 * 1024;
export const MAX_RECORD_BYTES = MAX_EXTENSION_DATA + 8192;

/** The fields of a header block in the order of their bits: where, how long, how coded. */
export const FIELDS = [
  { name: 'name', at: 0, length: 100, form: 'string' },
  { name: 'size', at: 124, length: 12, form: 'octal' },
  { name: 'mtime', at: 136, length: 12, form: 'octal' },
  { name: 'mode', at: 100, length: 8, form: 'raw' },
  { name: 'uid', at: 108, length: 8, form: 'raw' },
  { name: 'gid', at: 116, length: 8, form: 'raw' },
  { name: 'linkName', at: 157, length: 100, form: 'string' },
  { name: 'type', at: 156, length: 1, form: 'raw' },
  { name: 'magic', at: 257, length: 8, form: 'raw' },
  { name: 'userName', at: 265, length: 32, form: 'raw' },
  { name: 'groupName', at: 297, length: 32, form: 'raw' },
  { name: 'devMajor', at: 329, length: 8, form: 'raw' },
  { name: 'devMinor', at: 337, length: 8, form: 'raw' },
  { name: 'prefix', at: 345, length: 155, form: 'string' },
  { name: 'rest', at: 500, length: 12, form: 'raw' },
] as const;
export type Field = (typeof FIELDS)[number];
export type FieldPlace = { readonly at: number; readonly length: number };
/** The bit of the checksum field. */
export const CHECKSUM_BIT = 2 ** FIELDS.length;
export const CHECKSUM = { at: 148, length: 8 } as const;
/** First value that 11 octal digits cannot hold. */
export const OCTAL_END = 8 ** 11;

/** What stands in where there is no record to code against. */
export const BLANK_RECORD: TarRecord = {
  block: withChecksum(new Uint8Array(BLOCK)),
  data: new Uint8Array(0),
};

const USTAR = Buffer.from('ustar\0', 'latin1');
/** A part of a path that is not as {@link cleanPath} leaves it. */
const UNCLEAN = /(?:^|\/)\.{0,2}(?:\/|$)/;

/** Type flag of a header block. */
export function recordType(block: Uint8Array): number {
  return block[156] ?? 0;
}

/** Whether a type flag is that of an extension record: `x`, `g`, `L`, `K`. */
export function isExtension(type: number): boolean {
  return type === 0x78 || type === 0x67 || type === 0x4c || type === 0x4b;
}

/** Whether a type flag is that of a regular file: `0`, NUL, `7`. */
export function isRegular(type: number): boolean {
  return type === 0x30 || type === 0 || type === 0x37;
}

/** 11 octal digits, or undefined when the field holds something else. */
export function octalField(block: Uint8Array, at: number): number | undefined {
  let value = 0;
  for (let i = at; i < at + 11; i += 1) {
    const digit = (block[i] ?? 0) - 0x30;
    if (digit < 0 || digit > 7) return undefined;
    value = value * 8 + digit;
  }
  return value;
}

/** Writes 11 octal digits and, after them, the byte that the reference has there. */
export function putOctal(
  block: Uint8Array,
  at: number,
  value: number,
  reference: Uint8Array,
): void {
  block.set(Buffer.from(value.toString(8).padStart(11, '0'), 'latin1'), at);
  block[at + 11] = octalField(reference, at) === undefined ? 0 : (reference[at + 11] ?? 0);
}

/** The bytes of a field up to its first NUL. */
export function stringField(block: Uint8Array, field: FieldPlace): Uint8Array {
  const bytes = block.subarray(field.at, field.at + field.length);
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

/** Sets the checksum as GNU tar and Go write it: six octal digits, NUL, space. */
export function withChecksum(block: Uint8Array): Uint8Array {
  let sum = 8 * 0x20;
  for (let i = 0; i < BLOCK; i += 1) sum += block[i] ?? 0;
  for (let i = CHECKSUM.at; i < CHECKSUM.at + CHECKSUM.length; i += 1) sum -= block[i] ?? 0;
  block.set(Buffer.from(`${sum.toString(8).padStart(6, '0')}\0 `, 'latin1'), CHECKSUM.at);
  return block;
}

/** Bytes from `size` up to the next multiple of 512. */
export function paddingOf(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

/** The bytes of records as they stand in a tar stream; of one alone they are its own. */
export function joinRecords(records: readonly TarRecord[]): Uint8Array {
  const [first] = records;
  if (records.length === 1 && first?.data.length === 0) return first.block;
  const parts: Uint8Array[] = [];
  for (const { block, data } of records) {
    parts.push(block, data);
    if (data.length % BLOCK > 0) parts.push(new Uint8Array(paddingOf(data.length)));
  }
  return Buffer.concat(parts);
}

/** Path and size of a regular file, or of another entry, from its records (FORMAT.md section 5.1). */
export type EntryFacts = { readonly path: string; readonly size: number; readonly type: number };

/** Throws DELTA_INVALID. */
export function entryFacts(records: readonly TarRecord[]): EntryFacts {
  const own = records.at(-1)?.block ?? BLANK_RECORD.block;
  let pax: Map<string, string> | undefined;
  let longName: string | undefined;
  let size = octalSize(own);
  for (const { block, data } of records) {
    if (block === own) break;
    const text = Buffer.from(data.buffer, data.byteOffset, data.length);
    if (recordType(block) === 0x4c) longName = untilNul(text);
    if (recordType(block) === 0x78) pax = paxValues(text);
  }
  const stated = pax?.get('size');
  if (stated !== undefined) size = decimalSize(stated);
  return {
    path: cleanPath(pax?.get('path') ?? longName ?? headerName(own)),
    size: isRegular(recordType(own)) ? size : 0,
    type: recordType(own),
  };
}

function octalSize(block: Uint8Array): number {
  const plain = octalField(block, 124);
  if (plain !== undefined) return plain;
  if ((block[124] ?? 0) === 0x80) {
    let value = 0;
    for (let i = 125; i < 136; i += 1) value = value * 256 + (block[i] ?? 0);
    if (Number.isSafeInteger(value)) return value;
  }
  const text = Buffer.from(block.subarray(124, 136)).toString('latin1');
  const digits = /^ *([0-7]*)(?:[ \0]|$)/.exec(text)?.[1];
  if (digits === undefined) throw invalidDelta('a header has no size');
  return digits === '' ? 0 : Number.parseInt(digits, 8);
}

function decimalSize(text: string): number {
  const size = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(size)) return size;
  throw invalidDelta('a header has no size');
}

/** Text of a stretch up to its first NUL, one byte a character. */
function untilNul(data: Buffer, start = 0, end: number = data.length): string {
  const nul = data.indexOf(0, start);
  return data.toString('latin1', start, nul < 0 || nul > end ? end : nul);
}

function headerName(block: Uint8Array): string {
  const text = Buffer.from(block.buffer, block.byteOffset, block.length);
  const name = untilNul(text, 0, 100);
  const posix = USTAR.compare(text, 257, 257 + USTAR.length) === 0;
  const prefix = posix ? untilNul(text, 345, 500) : '';
  return prefix === '' ? name : `${prefix}/${name}`;
}

function paxValues(data: Buffer): Map<string, string> {
  const values = new Map<string, string>();
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(0x20, at);
    const length = space < 0 || space - at > 10 ? 0 : Number(data.toString('latin1', at, space));
    const equals = data.indexOf(0x3d, space);
    const end = at + length;
    if (!(length > 0) || end > data.length || equals < 0 || equals >= end) {
      throw invalidDelta('an extended header is malformed');
    }
    const value = data.toString('latin1', equals + 1, end - 1);
    // An empty value means: as if the record were not there.
    const key = data.toString('latin1', space + 1, equals);
    if (value === '') values.delete(key);
    else values.set(key, value);
    at = end;
  }
  return values;
}

/** Throws DELTA_INVALID for a path that leads upwards. */
export function cleanPath(path: string): string {
  if (!UNCLEAN.test(path)) return path;
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw invalidDelta('an entry of a layer leads out of the tree');
  return parts.join('/');
}
