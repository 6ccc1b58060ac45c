import { type ByteReader, invalidDelta } from './bytes.ts';
import type { StreamName } from './header.ts';
import { RecordMemory, readRecord } from './record-codec.ts';
import type { SourceEntries, SourceEntry } from './source-entries.ts';
import {
  BLANK_RECORD,
  type EntryFacts,
  entryFacts,
  isExtension,
  MAX_EXTENSIONS,
  MAX_RECORD_BYTES,
  recordType,
  type TarRecord,
} from './tar-records.ts';

/** How an ENTRY names what its records are coded against (FORMAT.md section 5.3). */
export const REFERENCE = { NEXT: 0, AT: 1, NONE: 2 } as const;

export type ReadEntry = {
  readonly records: readonly TarRecord[];
  readonly facts: EntryFacts;
  readonly reference: SourceEntry | undefined;
  /** The source pointer afterwards. */
  readonly pointer: number;
};

/** Reads the records of ENTRY commands. */
export class EntryReader {
  readonly #streams: Readonly<Record<StreamName, ByteReader>>;
  readonly #entries: SourceEntries;
  #memory = new RecordMemory();

  constructor(streams: Readonly<Record<StreamName, ByteReader>>, entries: SourceEntries) {
    this.#streams = streams;
    this.#entries = entries;
  }

  /** At a checkpoint. */
  restart(): void {
    this.#memory = new RecordMemory();
  }

  /** `pointer` is the source pointer. Throws DELTA_INVALID, DELTA_SOURCE_MISMATCH. */
  read(pointer: number): ReadEntry {
    const at = this.#readReference(pointer);
    const reference = at === undefined ? undefined : this.#entries.at(at);
    const against = this.#readShape(reference);
    const memory = this.#memory;
    const records: TarRecord[] = [];
    for (const [i, old] of against.entries()) {
      const isOwn = i === against.length - 1;
      const record = readRecord(this.#streams, old.record, memory, !isOwn);
      const type = recordType(record.block);
      const fits = isOwn ? !isExtension(type) : type === old.type || old.type === undefined;
      if (!fits || (!isOwn && !isExtension(type))) {
        throw invalidDelta('a header is not of the type that the delta says');
      }
      records.push(record);
    }
    const bytes = records.reduce((sum, { block, data }) => sum + block.length + data.length, 0);
    if (bytes > MAX_RECORD_BYTES) throw invalidDelta('the headers of an entry are too large');
    memory.keep(records);
    return {
      records,
      facts: entryFacts(records),
      reference,
      pointer: at === undefined ? pointer : at + 1,
    };
  }

  #readReference(pointer: number): number | undefined {
    const { commands } = this.#streams;
    switch (commands.byte()) {
      case REFERENCE.NEXT:
        return pointer;
      case REFERENCE.AT:
        return pointer + commands.signed();
      case REFERENCE.NONE:
        return undefined;
      default:
        throw invalidDelta('an entry has a reference of an unknown kind');
    }
  }

  /** What each record is coded against, and of which type an extension record must become. */
  #readShape(reference: SourceEntry | undefined): { record: TarRecord; type?: number }[] {
    const { commands, text } = this.#streams;
    const shape = commands.number();
    if (shape === 0) {
      if (reference === undefined) throw invalidDelta('an entry has the shape of no reference');
      return reference.records.map((record) => ({ record }));
    }
    if (shape - 1 > MAX_EXTENSIONS) throw invalidDelta('an entry has too many extended headers');
    const against = Array.from({ length: shape - 1 }, () => {
      const type = text.byte();
      return { record: this.#memory.last(type), type };
    });
    const own = reference?.records.at(-1) ?? this.#memory.last('own');
    return [...against, { record: own ?? BLANK_RECORD }];
  }
}
