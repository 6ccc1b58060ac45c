import { ByteWriter } from './bytes.ts';
import { COMMAND } from './commands.ts';
import { REFERENCE } from './entry-reader.ts';
import type { StreamName } from './header.ts';
import { RecordMemory, writeRecord } from './record-codec.ts';
import type { SourceEntry } from './source-entries.ts';
import {
  entryFacts,
  isExtension,
  MAX_EXTENSIONS,
  MAX_RECORD_BYTES,
  recordType,
  type TarRecord,
} from './tar-records.ts';

type Reference = { readonly index: number; readonly entry: SourceEntry };

/** Writes the records of ENTRY commands. */
export class EntryWriter {
  readonly #streams: Readonly<Record<StreamName, ByteWriter>>;
  #memory = new RecordMemory();

  constructor(streams: Readonly<Record<StreamName, ByteWriter>>) {
    this.#streams = streams;
  }

  /** At a checkpoint. */
  restart(): void {
    this.#memory = new RecordMemory();
  }

  /** False, with nothing written, when the format cannot express the records. */
  write(records: readonly TarRecord[], reference: Reference | undefined, pointer: number): boolean {
    const memory = this.#memory;
    const before = memory.substitution;
    const output = { commands: new ByteWriter(), text: new ByteWriter() };
    output.commands.byte(COMMAND.ENTRY);
    writeReference(output.commands, reference, pointer);
    const against = this.#writeShape(output, records, reference);
    memory.learns = reference !== undefined;
    const bytes = records.reduce((sum, { block, data }) => sum + block.length + data.length, 0);
    const isWritten =
      records.length - 1 <= MAX_EXTENSIONS &&
      bytes <= MAX_RECORD_BYTES &&
      records.every((record, i) => {
        const old = against[i];
        const isOwn = i === records.length - 1;
        return old !== undefined && writeRecord(output, record, old, memory, !isOwn);
      });
    if (!isWritten || !hasFacts(records)) {
      memory.substitution = before;
      return false;
    }
    memory.keep(records);
    this.#streams.commands.bytes(output.commands.view());
    this.#streams.text.bytes(output.text.view());
    return true;
  }

  /** What each record is coded against. */
  #writeShape(
    output: { commands: ByteWriter; text: ByteWriter },
    records: readonly TarRecord[],
    reference: Reference | undefined,
  ): TarRecord[] {
    const types = records.slice(0, -1).map(({ block }) => recordType(block));
    const old = reference?.entry.records ?? [];
    const isSame =
      old.length === records.length &&
      types.every((type, i) => recordType(old[i]?.block ?? EMPTY) === type);
    if (isSame) {
      output.commands.number(0);
      return [...old];
    }
    output.commands.number(records.length);
    for (const type of types) output.text.byte(type);
    const own = old.at(-1) ?? this.#memory.last('own');
    return [...types.map((type) => this.#memory.last(type)), own];
  }
}

/** Whether path and size of an entry can be told as a reader tells them. */
function hasFacts(records: readonly TarRecord[]): boolean {
  try {
    entryFacts(records);
    return true;
  } catch {
    return false;
  }
}

const EMPTY = new Uint8Array(512);

function writeReference(
  commands: ByteWriter,
  reference: Reference | undefined,
  pointer: number,
): void {
  if (reference === undefined) commands.byte(REFERENCE.NONE);
  else if (reference.index === pointer) commands.byte(REFERENCE.NEXT);
  else {
    commands.byte(REFERENCE.AT);
    commands.signed(reference.index - pointer);
  }
}

/** Splits the raw headers of an entry, as they stand in a tar stream, into records. */
export function splitRecords(raw: Uint8Array): TarRecord[] | undefined {
  const records: TarRecord[] = [];
  for (let at = 0; at + 512 <= raw.length; ) {
    const block = raw.subarray(at, at + 512);
    at += 512;
    if (!isExtension(recordType(block))) {
      records.push({ block, data: EMPTY.subarray(0, 0) });
      return at === raw.length ? records : undefined;
    }
    const digits = Buffer.from(block.subarray(124, 136)).toString('latin1');
    const size = Number.parseInt(/^ *([0-7]+)/.exec(digits)?.[1] ?? '', 8);
    const padded = Math.ceil(size / 512) * 512;
    if (!(at + padded <= raw.length)) return undefined;
    if (raw.subarray(at + size, at + padded).some((byte) => byte !== 0)) return undefined;
    records.push({ block, data: raw.subarray(at, at + size) });
    at += padded;
  }
  return undefined;
}
