import type { SnapgateError } from '../../errors.ts';
import type { SourceFile } from '../piece.ts';
import { MEMORY_WORKSPACE, type WorkFile, type Workspace, workSource } from '../workspace.ts';
import { invalidDelta } from './bytes.ts';
import type { LayerDeltaHeader } from './header.ts';

/** Parts of up to this many bytes stay in memory while there is room for them. */
const SMALL_PART = 256 * 1024;
const MEMORY_BYTES = 4 * 1024 * 1024;

type Part = {
  readonly size: number;
  readonly file: WorkFile;
  readonly inMemory: boolean;
  /** Ends when the part's bytes are there. */
  readonly ready: Promise<SourceFile>;
  /** Parts that are being made of this one. */
  readonly users: Promise<unknown>[];
};

/** Writes a part's bytes, in order, with `write`. */
export type FillPart = (write: (bytes: Uint8Array) => void) => Promise<void>;

/** The parts of a delta that live (FORMAT.md section 7), within the limits of its header. */
export class Parts {
  readonly #limits: Pick<LayerDeltaHeader, 'temporaryLimit' | 'partLimit'>;
  readonly #workspace: Workspace;
  readonly #live = new Map<number, Part>();
  #next = 0;
  #bytes = 0;
  #memory = 0;

  constructor(
    limits: Pick<LayerDeltaHeader, 'temporaryLimit' | 'partLimit'>,
    workspace: Workspace,
  ) {
    this.#limits = limits;
    this.#workspace = workspace;
  }

  /**
   * Makes a part of `size` bytes, which lives at once; the promise ends when it is filled. Others may
   * be made meanwhile. `fill` must write just as many bytes, else the part fails with `wrongSize`.
   * `from` is the age of the part that it is made of. Throws DELTA_INVALID beyond the limits.
   */
  create(size: number, fill: FillPart, wrongSize: () => SnapgateError, from?: number): void {
    const source = from === undefined ? undefined : this.#live.get(this.numberOf(from));
    const part = this.#open(size, fill, wrongSize);
    source?.users.push(part.ready);
    // Whoever reads the part hears of a failure; one that nobody reads is of no matter.
    part.ready.catch(() => {});
    this.#live.set(this.#next++, part);
  }

  /** Makes a part that lives once it is filled. Throws what filling it throws. */
  async build(size: number, fill: FillPart): Promise<void> {
    const wrongSize = () => invalidDelta('a part is of another size than the delta says');
    const part = this.#open(size, fill, wrongSize);
    try {
      await part.ready;
    } catch (error) {
      this.#release(part);
      throw error;
    }
    this.#live.set(this.#next++, part);
  }

  #open(size: number, fill: FillPart, wrongSize: () => SnapgateError): Part {
    if (size < 1) throw invalidDelta('a part is empty');
    const { temporaryLimit, partLimit } = this.#limits;
    if (this.#bytes + size > temporaryLimit || this.#live.size >= partLimit) {
      throw invalidDelta('the delta keeps more aside than it declares');
    }
    const inMemory = size <= SMALL_PART && this.#memory + size <= MEMORY_BYTES;
    const file = (inMemory ? MEMORY_WORKSPACE : this.#workspace).create(size);
    this.#bytes += size;
    if (inMemory) this.#memory += size;
    let filled = 0;
    const write = (bytes: Uint8Array) => {
      if (filled + bytes.length > size) throw wrongSize();
      file.write(bytes, filled);
      filled += bytes.length;
    };
    const ready = fill(write).then(() => {
      if (filled < size) throw wrongSize();
      return workSource(file, size, 'a part of the delta');
    });
    return { size, file, inMemory, ready, users: [] };
  }

  /** The number of the next new part. */
  get next(): number {
    return this.#next;
  }

  /** The number of the living part that is `age` before the next new one. Throws DELTA_INVALID. */
  numberOf(age: number): number {
    const number = this.#next - age;
    if (this.#live.has(number)) return number;
    throw invalidDelta('the delta names a part that does not live');
  }

  /** Throws DELTA_INVALID when there is none, and whatever making it threw. */
  async open(age: number): Promise<SourceFile> {
    return (this.#live.get(this.numberOf(age)) as Part).ready;
  }

  /** Waits until a part, and what is made of it, is there before its room is given back. */
  async free(age: number): Promise<void> {
    await this.#remove(this.numberOf(age));
  }

  async close(): Promise<void> {
    for (const number of [...this.#live.keys()]) await this.#remove(number);
  }

  /** At a checkpoint numbers start anew. Throws DELTA_INVALID when a part still lives. */
  restart(): void {
    if (this.#live.size > 0) throw invalidDelta('a part lives across a checkpoint');
    this.#next = 0;
  }

  async #remove(number: number): Promise<void> {
    const part = this.#live.get(number);
    if (part === undefined) return;
    this.#live.delete(number);
    await Promise.allSettled([part.ready, ...part.users]);
    this.#release(part);
  }

  #release(part: Part): void {
    part.file.close();
    this.#bytes -= part.size;
    if (part.inMemory) this.#memory -= part.size;
  }
}
