import type { Piece, SourceFile } from '../../shared/delta/piece.ts';
import { SnapgateError } from '../../shared/errors.ts';
import type { SendCommand } from '../../shared/send-stream/format.ts';
import { BLOCK, type ContentWriter, type WrittenFile } from './content-writer.ts';

/** Where a file can be cloned from: a subvolume that `btrfs receive` finds, and a path in it. */
export type CloneSource = { readonly uuid: Uint8Array; readonly path: string };

/** A run that stands in a file of the source, at equal distances from a block's start. */
type Run = {
  readonly file: SourceFile;
  readonly clone: CloneSource;
  readonly from: number;
  readonly to: number;
  length: number;
};

/**
 * Turns the content of one file into `write` and `clone` commands. The kernel clones whole blocks
 * alone, except at the end of the source, and there only up to the end of the target: what stands
 * around them is written.
 */
export class FileContent {
  /** Its size is the final one; its bytes beyond what was stored are zeros. */
  readonly #target: WrittenFile;
  readonly #add: (command: SendCommand) => void;
  readonly #writer: ContentWriter;
  #run: Run | undefined;
  #end = 0;
  /** Bytes that are shared. */
  cloned = 0;

  constructor(target: WrittenFile, add: (command: SendCommand) => void, writer: ContentWriter) {
    this.#target = target;
    this.#add = add;
    this.#writer = writer;
  }

  /** Takes the bytes that go to `offset` of the file; they may also be had from `clone`. */
  put(piece: Piece, offset: number, clone: CloneSource | undefined): void {
    this.#end = Math.max(this.#end, offset + piece.bytes.length);
    if (clone === undefined || piece.source === undefined) {
      this.#flush();
      this.#write(piece.bytes, offset);
      return;
    }
    const { file, offset: from } = piece.source;
    const run = this.#run;
    if (run !== undefined && run.file === file && from === run.from + run.length) {
      if (offset === run.to + run.length) {
        run.length += piece.bytes.length;
        return;
      }
    }
    this.#flush();
    this.#begin(piece.bytes, offset, file, from, clone);
  }

  #begin(bytes: Uint8Array, to: number, file: SourceFile, from: number, clone: CloneSource): void {
    const before = from % BLOCK === to % BLOCK ? (BLOCK - (to % BLOCK)) % BLOCK : bytes.length;
    const head = Math.min(before, bytes.length);
    this.#write(bytes.subarray(0, head), to);
    if (head < before || head === bytes.length) return;
    const length = bytes.length - head;
    this.#run = { file, clone, from: from + head, to: to + head, length };
  }

  /** Ends the file: emits what is left and gives it its size. */
  finish(): void {
    this.#flush();
    this.#writer.flush();
    const { path, size } = this.#target;
    if (this.#end < size) this.#add({ op: 'truncate', path, size });
  }

  #flush(): void {
    const run = this.#run;
    if (run === undefined) return;
    this.#run = undefined;
    const { size } = this.#target;
    const endsBoth = run.from + run.length === run.file.size && run.to + run.length === size;
    const shareable = endsBoth ? run.length : run.length - (run.length % BLOCK);
    const { whole, part } = this.#writer.leastShared;
    const length = shareable < (shareable === size ? whole : part) ? 0 : shareable;
    if (length > 0) this.#clone(run, length);
    const rest = Buffer.allocUnsafe(run.length - length);
    if (rest.length === 0) return;
    if (run.file.read(rest, run.from + length) < rest.length) {
      throw new SnapgateError('DELTA_SOURCE_MISMATCH', 'a source file became shorter', {
        where: run.file.path,
      });
    }
    this.#write(rest, run.to + length);
  }

  #clone({ clone, from, to }: Run, length: number): void {
    this.cloned += length;
    this.#add({
      ...{ op: 'clone', path: this.#target.path, offset: to, length },
      ...{ cloneUuid: clone.uuid, cloneCtransid: 0, clonePath: clone.path, cloneOffset: from },
    });
  }

  #write(bytes: Uint8Array, offset: number): void {
    this.#writer.write(this.#target, bytes, offset);
  }
}
