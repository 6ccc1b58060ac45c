import { newSequences, type Sequences } from '../entropy/sequences.ts';

/**
 * How a compressed block was made of its content (RFC 8878, section 3.1.1.3): with the content, all
 * that its bytes follow from.
 */
export type BlockParse = {
  /** Kind of the literals section, 0 to 3, and the size format of its header. */
  literalsKind: number;
  literalsFormat: number;
  /** The description of Huffman codes as it stands, empty where there is none. */
  tree: Uint8Array;
  sequences: Sequences;
  /** Literals after the last sequence. */
  tail: number;
  /** The byte of the tables' kinds, and their descriptions as they stand. */
  tableKinds: number;
  tables: Uint8Array;
};

export const NOTHING = new Uint8Array(0);

/** One to be filled, again and again. */
export function newBlockParse(): BlockParse {
  return {
    ...{ literalsKind: 0, literalsFormat: 0, tree: NOTHING, sequences: newSequences(0) },
    ...{ tail: 0, tableKinds: 0, tables: NOTHING },
  };
}

/** Makes room for so many sequences. Most frames are small, and would be slower with all of it. */
export function setSize(parse: BlockParse, size: number): void {
  const room = parse.sequences.offsets.length;
  if (room < size) parse.sequences = newSequences(Math.max(size, 2 * room));
  parse.sequences.size = size;
}

/** Bytes of content that a block has. */
export function contentSize({ sequences, tail }: BlockParse): number {
  const { size, literalLengths, matchLengths } = sequences;
  let sum = tail + 3 * size;
  for (let i = 0; i < size; i++) {
    sum += (literalLengths[i] as number) + (matchLengths[i] as number);
  }
  return sum;
}
