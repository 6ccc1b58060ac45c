import { BLOCK_KIND as BLOCK, blockHeader, MAX_BLOCK } from '../block.ts';
import type { HuffmanCodes } from '../entropy/huffman.ts';
import { LazyParser, type Offsets } from './lazy-parser.ts';
import { packLiterals } from './literals.ts';
import { type LazyLevel, RowMatcher } from './row-matcher.ts';
import { NO_TABLES, packSequences, type SequenceTables } from './sequences.ts';

/** Smaller blocks are stored. */
const MIN_BLOCK = 7;
/** Blocks that pack to less than this may be runs of one byte. */
const MAX_RUN_SIZE = 25;
/** So many literals to a sequence look incompressible. */
const SUSPICIOUS_LITERALS = 20;

/** What a decoder knows after a block. */
type State = {
  readonly offsets: Offsets;
  readonly codes: HuffmanCodes | undefined;
  readonly tables: SequenceTables;
};

/**
 * Packs content in jobs, as zstd's multi-threaded mode does: each job sees the end of the one
 * before, and begins with no other knowledge.
 */
export class JobPacker {
  /** The job's content, after the overlap with the one before. */
  readonly #input: Uint8Array;
  readonly #matcher: RowMatcher;
  readonly #parser: LazyParser;
  /** Bytes of content in a whole job, and of the overlap between two. */
  readonly jobSize: number;
  readonly #overlap: number;
  #overlapped = 0;
  #filled = 0;
  #first = true;

  constructor(level: LazyLevel) {
    this.jobSize = 2 ** Math.max(20, level.windowLog + 2);
    this.#overlap = 2 ** (level.windowLog - (level.depth === 2 ? 2 : 3));
    this.#input = new Uint8Array(this.jobSize + this.#overlap);
    this.#matcher = new RowMatcher(this.#input, level);
    this.#parser = new LazyParser(this.#input, this.#matcher, level);
  }

  /** Takes content for the job; returns how much of it fitted. */
  fill(content: Uint8Array): number {
    const count = Math.min(content.length, this.jobSize - this.#filled);
    this.#input.set(content.subarray(0, count), this.#overlapped + this.#filled);
    this.#filled += count;
    return count;
  }

  get full(): boolean {
    return this.#filled === this.jobSize;
  }

  /** The job's blocks; prepares the next job. */
  *pack(last: boolean): Generator<Uint8Array> {
    const start = this.#overlapped;
    const end = start + this.#filled;
    if (start === end) {
      yield blockHeader(BLOCK.RAW, 0, last);
      return;
    }
    this.#matcher.start(start);
    let state: State = {
      offsets: this.#first ? [1, 4] : [0, 0],
      codes: undefined,
      tables: NO_TABLES,
    };
    for (let at = start; at < end; at += MAX_BLOCK) {
      const blockEnd = Math.min(end, at + MAX_BLOCK);
      const packed = this.#packBlock(at, blockEnd, state, at === start);
      yield withHeader(packed, this.#input.subarray(at, blockEnd), last && blockEnd === end);
      state = packed.state;
    }
    this.#prepareNext(end);
  }

  #prepareNext(end: number): void {
    const kept = Math.min(this.#overlap, end);
    this.#input.copyWithin(0, end - kept, end);
    this.#overlapped = kept;
    this.#filled = 0;
    this.#first = false;
  }

  #packBlock(start: number, end: number, state: State, first: boolean): Packed {
    const input = this.#input.subarray(start, end);
    if (input.length < MIN_BLOCK) return { kind: BLOCK.RAW, bytes: input, state };
    const offsets = this.#parser.parse(start, end, state.offsets);
    const { sequences, literals } = this.#parser;
    const suspicious =
      sequences.size === 0 || Math.floor(literals.length / sequences.size) >= SUSPICIOUS_LITERALS;
    const literal = packLiterals(literals, state.codes, suspicious);
    const sequence = packSequences(sequences, state.tables);
    const size = sequence === undefined ? 0 : literal.section.length + sequence.section.length;
    const packs = sequence !== undefined && size < input.length - ((input.length >> 6) + 2);
    // Old decoders take a frame that begins with a run for one that is cut short.
    if (!first && (!packs || size < MAX_RUN_SIZE) && isRun(input)) {
      return { kind: BLOCK.RLE, bytes: input.subarray(0, 1), state };
    }
    if (!packs) return { kind: BLOCK.RAW, bytes: input, state };
    return {
      kind: BLOCK.COMPRESSED,
      bytes: Buffer.concat([literal.section, sequence.section]),
      state: { offsets, codes: literal.codes, tables: sequence.tables },
    };
  }
}

type Packed = { readonly kind: number; readonly bytes: Uint8Array; readonly state: State };

function isRun(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === bytes[0]);
}

function withHeader({ kind, bytes }: Packed, input: Uint8Array, last: boolean): Uint8Array {
  const size = kind === BLOCK.RLE ? input.length : bytes.length;
  return Buffer.concat([blockHeader(kind, size, last), bytes]);
}
