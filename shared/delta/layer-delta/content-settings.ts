import type { SourceFile } from '../piece.ts';
import { FILTER } from './branch-filter.ts';
import { type ByteReader, invalidDelta } from './bytes.ts';
import type { StreamName } from './header.ts';
import { readAddressMap } from './map-codec.ts';
import { OPERATION } from './operation-codes.ts';
import { MODE } from './prediction.ts';
import { type Source, SourceTable } from './source-table.ts';

/** Where settings are read from, and what opens sources. */
export type SettingContext = {
  readonly streams: Readonly<Record<StreamName, ByteReader>>;
  readonly openFile: (path: string) => SourceFile;
  /** The file of the source entry at the source pointer plus `distance`. */
  readonly openEntry: (distance: number) => SourceFile;
  readonly openPart: (age: number) => Promise<SourceFile>;
};

/** What the operations of one content read from, and how: they make nothing, and change it. */
export class ContentSettings {
  readonly #context: SettingContext;
  readonly #sources: SourceTable;
  mode: number = MODE.PLAIN;
  filter: number = FILTER.NONE;

  /** `defaultSource` is the first in the table of sources; it is opened when it is used. */
  constructor(context: SettingContext, defaultSource: (() => SourceFile) | undefined) {
    this.#context = context;
    this.#sources = new SourceTable(defaultSource);
  }

  /** The source that operations read from. */
  get current(): Source | undefined {
    return this.#sources.current;
  }

  /**
   * Carries out an operation that makes nothing; gives what must be waited for. Throws DELTA_INVALID,
   * DELTA_SOURCE_MISMATCH.
   */
  change(code: number): Promise<void> | undefined {
    const { commands } = this.#context.streams;
    if (code === OPERATION.SWITCH) this.#sources.switchTo(commands.number());
    else if (code === OPERATION.MODE) {
      this.mode = commands.number();
      if (this.mode > MODE.ADDRESS_WORDS)
        throw invalidDelta('the delta predicts in an unknown mode');
    } else if (code === OPERATION.FILTER) {
      this.filter = commands.number();
      if (this.filter > FILTER.ARM64) throw invalidDelta('the delta has an unknown filter');
    } else if (code === OPERATION.MAP) {
      if (this.current === undefined) throw invalidDelta('the delta maps before it names a source');
      this.current.map = readAddressMap(this.#context.streams);
    } else return this.#add(code);
    return undefined;
  }

  #add(code: number): Promise<void> | undefined {
    const sources = this.#sources;
    sources.checkRoom();
    const { streams, openFile, openEntry, openPart } = this.#context;
    const { commands, text } = streams;
    if (code === OPERATION.FILE) sources.add(openFile(readPath(commands, text)), true);
    else if (code === OPERATION.ENTRY_FILE) sources.add(openEntry(commands.signed()), true);
    else if (code === OPERATION.PART) {
      return openPart(commands.number()).then((file) => sources.add(file, false));
    } else throw invalidDelta(`the delta holds the unknown operation ${code}`);
    return undefined;
  }
}

/** A path of the delta's text: relative, without empty parts, `.` and `..`. */
export function readPath(commands: ByteReader, text: ByteReader): string {
  const length = commands.number();
  if (length === 0 || length > 4096) throw invalidDelta('a path is empty or too long');
  const path = Buffer.from(text.bytes(length)).toString('latin1');
  const parts = path.split('/');
  if (path.includes('\0') || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw invalidDelta('the delta names a path that is not inside the source tree');
  }
  return path;
}
