import { BLOCK } from '../../tar/header.ts';
import type { Piece, SourceFile } from '../piece.ts';
import { invalidDelta } from './bytes.ts';
import { EntryReader } from './entry-reader.ts';
import { type LayerDeltaHeader, STREAMS } from './header.ts';
import type { LookAhead } from './look-ahead.ts';
import { Operations, type Step } from './operations.ts';
import { Parts } from './parts.ts';
import { PartsReader } from './parts-reader.ts';
import type { ApplyOptions, DeltaStep } from './reader.ts';
import type { Checkpoint, SegmentReader } from './segment-reader.ts';
import type { SourceEntries, SourceEntry } from './source-entries.ts';
import { joinRecords, paddingOf } from './tar-records.ts';

/** Commands (FORMAT.md section 5). */
export const COMMAND = {
  KEEP: 0,
  MOVE: 1,
  ENTRY: 2,
  STREAM: 3,
  BUILD: 4,
  UNPACK: 5,
  ENCODE: 6,
  FREE: 7,
} as const;

const ZEROS = new Uint8Array(BLOCK);

/** Carries out the commands of a delta. */
export class CommandReader {
  readonly #header: LayerDeltaHeader;
  readonly #segments: SegmentReader;
  readonly #entries: SourceEntries;
  readonly #options: ApplyOptions;
  readonly #operations: Operations;
  readonly #parts: Parts;
  readonly #partsReader: PartsReader;
  readonly #entryReader: EntryReader;
  readonly #ahead: LookAhead;
  #pointer = 0;
  #output = 0;

  constructor(
    header: LayerDeltaHeader,
    segments: SegmentReader,
    entries: SourceEntries,
    options: ApplyOptions,
    ahead: LookAhead,
  ) {
    this.#header = header;
    this.#segments = segments;
    this.#entries = entries;
    this.#ahead = ahead;
    this.#options = options;
    this.#parts = new Parts(header, options.workspace);
    const openFile = (path: string) => options.source.open(path);
    const openEntry = (distance: number) => this.#openEntry(distance);
    this.#operations = new Operations({
      ...{ streams: segments.streams, openFile, openEntry },
      nextSegment: () => this.#continue(),
      openPart: (age) => this.#parts.open(age),
      isDry: options.isDry ?? false,
    });
    this.#partsReader = new PartsReader({
      ...{ streams: segments.streams, parts: this.#parts, operations: this.#operations },
      ...{ recompressor: options.recompressor, openFile, openEntry },
    });
    this.#entryReader = new EntryReader(segments.streams, entries);
  }

  /** Yields the tar stream. Throws DELTA_INVALID, DELTA_SOURCE_MISMATCH, LIMIT_EXCEEDED. */
  async *run(): AsyncGenerator<Piece, void, void> {
    if (!(await this.#start())) throw invalidDelta('the delta holds nothing');
    const { commands } = this.#segments.streams;
    for (;;) {
      if (commands.left > 0) {
        for (const step of this.#command(commands.byte())) {
          if (step instanceof Promise) await step;
          else yield this.#counted(step);
        }
        continue;
      }
      const found = await this.#segments.next();
      if (found === 'next') continue;
      for (const piece of this.#operations.rest()) yield this.#counted(piece);
      if (found === 'end') break;
      this.#restart(found);
    }
    if (this.#output < this.#header.outputSize) {
      throw invalidDelta('the delta makes less than it declares');
    }
  }

  #counted(piece: Piece): Piece {
    this.#output += piece.bytes.length;
    if (this.#output <= this.#header.outputSize) return piece;
    throw invalidDelta('the delta makes more than it declares');
  }

  async close(): Promise<void> {
    await this.#parts.close();
  }

  /** The first segment, which is a checkpoint. */
  async #start(): Promise<boolean> {
    const found = await this.#segments.next();
    if (found === 'end') return false;
    if (found === 'next') throw invalidDelta('the delta does not start with a checkpoint');
    const { resume } = this.#options;
    this.#output = resume?.checkpoint.outputPosition ?? 0;
    if (resume === undefined && found.sourcePointer !== 0) {
      throw invalidDelta('the delta starts in the middle');
    }
    this.#restart(found);
    return true;
  }

  #restart(checkpoint: Checkpoint): void {
    if (checkpoint.outputPosition !== this.#output) {
      throw invalidDelta('a checkpoint of the delta stands in a wrong place');
    }
    this.#parts.restart();
    this.#partsReader.restart();
    this.#entryReader.restart();
    this.#moveTo(checkpoint.sourcePointer);
    this.#options.onCheckpoint?.(checkpoint, this.#header);
  }

  /** The next segment, inside a command. */
  async #continue(): Promise<void> {
    const found = await this.#segments.next();
    if (found === 'end') throw invalidDelta('the delta ends inside a command');
    if (found !== 'next') throw invalidDelta('a checkpoint stands inside a command');
  }

  #moveTo(pointer: number): void {
    if (!this.#entries.allows(pointer)) {
      throw invalidDelta('the delta goes on beyond the entries of the source');
    }
    this.#pointer = pointer;
  }

  *#command(code: number): Generator<Step, void, void> {
    const { commands } = this.#segments.streams;
    switch (code) {
      case COMMAND.KEEP:
        yield* this.#keep(atLeastOne(commands.number()));
        this.#observe({ kind: 'keep' });
        return;
      case COMMAND.MOVE:
        this.#moveTo(this.#pointer + commands.signed());
        return;
      case COMMAND.ENTRY:
        yield* this.#entry();
        return;
      case COMMAND.STREAM:
        yield* this.#operations.run(atLeastOne(commands.number()));
        this.#observe({ kind: 'other' });
        return;
      case COMMAND.BUILD:
        yield* this.#operations.rest();
        yield this.#partsReader.build();
        this.#observe({ kind: 'part', part: this.#parts.next - 1 });
        return;
      case COMMAND.UNPACK:
        yield this.#partsReader.unpack();
        this.#observe({ kind: 'part', part: this.#parts.next - 1 });
        return;
      case COMMAND.ENCODE:
        yield this.#encode();
        return;
      case COMMAND.FREE:
        yield this.#free(commands.number());
        return;
      default:
        throw invalidDelta(`the delta holds the unknown command ${code}`);
    }
  }

  *#keep(count: number): Generator<Piece, void, void> {
    for (let i = 0; i < count; i += 1) {
      this.#ahead.from(this.#pointer);
      const { records, facts, padding } = this.#entries.at(this.#pointer);
      yield* this.#operations.put(joinRecords(records));
      if (facts.size > 0) {
        yield* this.#operations.whole(this.#options.source.open(facts.path), facts.size);
        yield* this.#operations.put(padding);
      }
      this.#pointer += 1;
    }
  }

  *#entry(): Generator<Step, void, void> {
    const { records, facts, reference, pointer } = this.#entryReader.read(this.#pointer);
    const { size } = facts;
    this.#moveTo(pointer);
    this.#ahead.from(pointer);
    this.#observe({ kind: 'headers', path: facts.path });
    yield* this.#operations.put(joinRecords(records));
    if (size === 0) return;
    const defaultSource = () => this.#options.source.open((reference?.facts ?? facts).path);
    const { commands } = this.#segments.streams;
    const content = commands.byte();
    if (content === 0) yield* this.#operations.whole(defaultSource(), size);
    else if (content === 1) yield* this.#operations.run(size, defaultSource);
    else throw invalidDelta('the content of an entry is of an unknown kind');
    this.#observe({ kind: 'content', path: facts.path });
    yield* this.#operations.put(ZEROS.subarray(0, paddingOf(size)));
  }

  async #encode(): Promise<void> {
    const part = this.#parts.next;
    this.#observe({ kind: 'part', part, from: await this.#partsReader.encode() });
  }

  async #free(age: number): Promise<void> {
    const part = this.#parts.numberOf(age);
    await this.#parts.free(age);
    this.#observe({ kind: 'free', part });
  }

  #observe(step: DeltaStep): void {
    const { observe } = this.#options;
    if (observe === undefined) return;
    const all = STREAMS.reduce((sum, name) => sum + this.#segments.used(name), 0);
    observe(step, { all, literals: this.#segments.used('literals') });
  }

  #openEntry(distance: number): SourceFile {
    const { facts }: SourceEntry = this.#entries.at(this.#pointer + distance);
    return this.#options.source.open(facts.path);
  }
}

function atLeastOne(count: number): number {
  if (count === 0) throw invalidDelta('a command does nothing');
  return count;
}
