import { type ByteReader, type ByteWriter, invalidDelta } from './bytes.ts';
import {
  BLANK_RECORD,
  CHECKSUM,
  CHECKSUM_BIT,
  FIELDS,
  type Field,
  type FieldPlace,
  isExtension,
  MAX_EXTENSION_DATA,
  OCTAL_END,
  octalField,
  putOctal,
  recordType,
  stringField,
  type TarRecord,
  withChecksum,
} from './tar-records.ts';

/** The streams that records are written to and read from. */
export type RecordWriters = { readonly commands: ByteWriter; readonly text: ByteWriter };
export type RecordReaders = { readonly commands: ByteReader; readonly text: ByteReader };

type Substitution = { readonly from: Buffer; readonly to: Buffer };

/** What reader and writer both remember from one ENTRY to the next. */
export class RecordMemory {
  substitution: Substitution | undefined;
  /** mtime of the header block that the last ENTRY made. */
  mtime = 0;
  /** Whether the writer lets names that it writes change what the last substitution is. */
  learns = true;
  readonly #last = new Map<number | 'own', TarRecord>();

  /** What an extension record of a type, or the header block, is coded against by itself. */
  last(kind: number | 'own'): TarRecord {
    return this.#last.get(kind) ?? BLANK_RECORD;
  }

  keep(records: readonly TarRecord[]): void {
    for (const record of records) {
      const type = recordType(record.block);
      this.#last.set(isExtension(type) ? type : 'own', record);
    }
    const own = records.at(-1);
    if (own !== undefined) this.mtime = octalField(own.block, 136) ?? 0;
  }
}

/** Reads a record that is coded against `reference`. Throws DELTA_INVALID. */
export function readRecord(
  input: RecordReaders,
  reference: TarRecord,
  memory: RecordMemory,
  withData: boolean,
): TarRecord {
  const bits = input.commands.number();
  if (bits >= 2 * CHECKSUM_BIT) throw invalidDelta('a header has fields that are not known');
  const block = Buffer.from(reference.block);
  for (let bit = 0; bits >> bit > 0 && bit < FIELDS.length; bit += 1) {
    if (bits & (1 << bit)) readField(input, FIELDS[bit] as Field, block, reference.block, memory);
  }
  if (bits & CHECKSUM_BIT) block.set(input.text.bytes(CHECKSUM.length), CHECKSUM.at);
  else withChecksum(block);
  if (!withData) return { block, data: BLANK_RECORD.data };
  const data = readChange(input, reference.data, memory, MAX_EXTENSION_DATA);
  if (octalField(block, 124) !== data.length) {
    throw invalidDelta('an extended header is of another size than its data');
  }
  return { block, data };
}

function readField(
  input: RecordReaders,
  field: Field,
  block: Uint8Array,
  reference: Uint8Array,
  memory: RecordMemory,
): void {
  const { at, length } = field;
  if (field.form === 'raw') {
    block.set(input.text.bytes(length), at);
    return;
  }
  if (field.form === 'string') {
    const bytes = readChange(input, stringField(reference, field), memory, length);
    if (bytes.includes(0)) throw invalidDelta('a name holds a NUL');
    block.fill(0, at, at + length);
    block.set(bytes, at);
    return;
  }
  const base = field.name === 'mtime' ? memory.mtime : (octalField(reference, at) ?? 0);
  const value = base + input.commands.signed();
  if (value < 0 || value >= OCTAL_END) throw invalidDelta('a number of a header is out of range');
  putOctal(block, at, value, reference);
}

function readChange(
  input: RecordReaders,
  old: Uint8Array,
  memory: RecordMemory,
  limit: number,
): Buffer {
  const code = input.commands.number();
  if (code === 0) {
    const changed = substitute(Buffer.from(old), memory.substitution);
    if (changed === undefined || changed.length > limit) {
      throw invalidDelta('a name cannot be changed as the last one was');
    }
    return changed;
  }
  const front = Math.floor((code - 1) / 2);
  const back = input.commands.number();
  const count = input.commands.number();
  if (front + back > old.length || front + back + count > limit) {
    throw invalidDelta('a name keeps more than there is, or becomes too long');
  }
  const to = Buffer.from(input.text.bytes(count));
  const fresh = Buffer.concat([old.subarray(0, front), to, old.subarray(old.length - back)]);
  if (code % 2 === 0) memory.substitution = widened(Buffer.from(old), fresh, front, back);
  return fresh;
}

/** What was replaced and by what, both from the start of the name's part on (up to a slash). */
function widened(old: Buffer, fresh: Buffer, front: number, back: number): Substitution {
  const start = front === 0 ? 0 : old.lastIndexOf(0x2f, front - 1) + 1;
  return {
    from: old.subarray(start, old.length - back),
    to: fresh.subarray(start, fresh.length - back),
  };
}

function substitute(old: Buffer, substitution: Substitution | undefined): Buffer | undefined {
  if (substitution === undefined || substitution.from.length === 0) return undefined;
  const at = old.indexOf(substitution.from);
  if (at < 0) return undefined;
  const { from, to } = substitution;
  return Buffer.concat([old.subarray(0, at), to, old.subarray(at + from.length)]);
}

/**
 * Writes a record as {@link readRecord} reads it. False, with something perhaps written, when it
 * cannot be expressed.
 */
export function writeRecord(
  output: RecordWriters,
  record: TarRecord,
  reference: TarRecord,
  memory: RecordMemory,
  withData: boolean,
): boolean {
  const { block } = record;
  const old = reference.block;
  const changed = FIELDS.filter((field) => !sameField(block, old, field));
  const plain = withChecksum(Uint8Array.from(block));
  const checksum = !sameField(plain, block, CHECKSUM);
  if (!changed.every((field) => isExpressible(block, old, field))) return false;
  const bits = changed.reduce((sum, field) => sum | (1 << FIELDS.indexOf(field)), 0);
  output.commands.number(bits | (checksum ? CHECKSUM_BIT : 0));
  for (const field of changed) writeField(output, field, block, old, memory);
  if (checksum) {
    output.text.bytes(block.subarray(CHECKSUM.at, CHECKSUM.at + CHECKSUM.length));
  }
  if (!withData) return true;
  writeChange(output, Buffer.from(reference.data), Buffer.from(record.data), memory);
  return octalField(block, 124) === record.data.length && record.data.length <= MAX_EXTENSION_DATA;
}

function sameField(a: Uint8Array, b: Uint8Array, { at, length }: FieldPlace): boolean {
  for (let i = at; i < at + length; i += 1) if (a[i] !== b[i]) return false;
  return true;
}

/** Whether a field has the form that the format can write: else its bytes are something unusual. */
function isExpressible(block: Uint8Array, reference: Uint8Array, field: Field): boolean {
  const { at, length, form } = field;
  if (form === 'raw') return true;
  const copy = Uint8Array.from(block);
  if (form === 'string') {
    const text = stringField(block, field);
    copy.fill(0, at + text.length, at + length);
  } else {
    const value = octalField(block, at);
    if (value === undefined) return false;
    putOctal(copy, at, value, reference);
  }
  return sameField(copy, block, field);
}

function writeField(
  output: RecordWriters,
  field: Field,
  block: Uint8Array,
  reference: Uint8Array,
  memory: RecordMemory,
): void {
  const { at, length } = field;
  if (field.form === 'raw') {
    output.text.bytes(block.subarray(at, at + length));
    return;
  }
  if (field.form === 'string') {
    const old = Buffer.from(stringField(reference, field));
    writeChange(output, old, Buffer.from(stringField(block, field)), memory);
    return;
  }
  const base = field.name === 'mtime' ? memory.mtime : (octalField(reference, at) ?? 0);
  output.commands.signed((octalField(block, at) ?? 0) - base);
}

function writeChange(output: RecordWriters, old: Buffer, fresh: Buffer, memory: RecordMemory) {
  if (substitute(old, memory.substitution)?.equals(fresh)) {
    output.commands.number(0);
    return;
  }
  const most = Math.min(old.length, fresh.length);
  let front = 0;
  while (front < most && old[front] === fresh[front]) front += 1;
  let back = 0;
  while (back < most - front && old[old.length - 1 - back] === fresh[fresh.length - 1 - back]) {
    back += 1;
  }
  const to = fresh.subarray(front, fresh.length - back);
  // What was put in or taken out says little about the next name; what was replaced may recur.
  const remembered = memory.learns && front + back < old.length && to.length > 0;
  output.commands.number(2 * front + (remembered ? 2 : 1));
  output.commands.number(back);
  output.commands.number(to.length);
  output.text.bytes(to);
  if (remembered) memory.substitution = widened(old, fresh, front, back);
}
