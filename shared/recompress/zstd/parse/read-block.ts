import { BackwardBits, damaged } from '../entropy/backward-bits.ts';
import {
  buildDecoder,
  type FseDecoder,
  FseReader,
  singleSymbolDecoder,
} from '../entropy/fse-decoder.ts';
import { treeSize } from '../entropy/huffman-tree.ts';
import { LITERALS_KIND, sizeWidth } from '../entropy/literals.ts';
import {
  LITERAL_BASES,
  LITERAL_BITS,
  MATCH_BASES,
  MATCH_BITS,
  MAX_SEQUENCES,
  type PerAlphabet,
} from '../entropy/sequences.ts';
import { readTables, type Tables } from '../entropy/tables.ts';
import { type BlockParse, NOTHING, setSize } from './block-parse.ts';

const DECODERS = { distribution: buildDecoder, single: singleSymbolDecoder };

/**
 * Reads how the blocks of a frame were made, one after the other. What their literals are is not
 * looked at: the content has them.
 */
export class BlockReader {
  #tables: Tables<FseDecoder> = {
    ...{ literalLengths: undefined, offsets: undefined, matchLengths: undefined },
  };

  /** Reads the next compressed block into `parse`. Throws a RangeError where it is damaged. */
  read(block: Uint8Array, parse: BlockParse): void {
    const literals = readLiteralsHeader(block);
    const { headerSize, packedSize } = literals;
    const end = headerSize + packedSize;
    if (end >= block.length) throw damaged();
    parse.literalsKind = literals.kind;
    parse.literalsFormat = literals.format;
    parse.tree = NOTHING;
    if (literals.kind === LITERALS_KIND.COMPRESSED) {
      parse.tree = block.slice(headerSize, headerSize + treeSize(block[headerSize] as number));
    }
    this.#readSequences(block.subarray(end), parse);
    const { size, literalLengths } = parse.sequences;
    let left = literals.size;
    for (let i = 0; i < size; i++) left -= literalLengths[i] as number;
    if (left < 0) throw damaged();
    parse.tail = left;
  }

  #readSequences(section: Uint8Array, parse: BlockParse): void {
    const { count, at } = readSequenceCount(section);
    if (count > MAX_SEQUENCES) throw damaged();
    setSize(parse, count);
    parse.tableKinds = 0;
    parse.tables = NOTHING;
    if (count === 0) return;
    parse.tableKinds = section[at] ?? 0;
    const described = section.subarray(at + 1);
    const { tables, size } = readTables(parse.tableKinds, described, this.#tables, DECODERS);
    this.#tables = tables;
    parse.tables = described.slice(0, size);
    decodeSequences(described.subarray(size), tables, parse.sequences);
  }
}

/** The header of a literals section (RFC 8878, section 3.1.1.3.1.1). */
function readLiteralsHeader(block: Uint8Array) {
  const first = block[0] ?? 0;
  const kind = first & 3;
  const format = (first >> 2) & 3;
  const fields = (bytes: number) => {
    let value = 0;
    for (let i = bytes - 1; i >= 0; i--) value = value * 256 + (block[i] ?? 0);
    return value;
  };
  if (kind === LITERALS_KIND.RAW || kind === LITERALS_KIND.RLE) {
    // With an even format the size begins a bit earlier.
    const headerSize = format === 1 ? 2 : format === 3 ? 3 : 1;
    const size = fields(headerSize) >> (headerSize === 1 ? 3 : 4);
    const packedSize = kind === LITERALS_KIND.RAW ? size : 1;
    return { kind, format: headerSize === 1 ? 0 : format, headerSize, size, packedSize };
  }
  const width = sizeWidth(format);
  const headerSize = (4 + 2 * width) / 8;
  const sizes = Math.floor(fields(headerSize) / 16);
  const size = sizes % 2 ** width;
  return { kind, format, headerSize, size, packedSize: Math.floor(sizes / 2 ** width) };
}

function readSequenceCount(section: Uint8Array): { readonly count: number; readonly at: number } {
  const [first = 0, second = 0, third = 0] = section;
  if (first < 128) return { count: first, at: 1 };
  if (first < 255) return { count: ((first - 128) << 8) + second, at: 2 };
  return { count: second + (third << 8) + 0x7f00, at: 3 };
}

function decodeSequences(
  bytes: Uint8Array,
  tables: PerAlphabet<FseDecoder>,
  { size, literalLengths, offsets, matchLengths }: BlockParse['sequences'],
): void {
  const bits = new BackwardBits(bytes);
  const literal = new FseReader(tables.literalLengths, bits);
  const offset = new FseReader(tables.offsets, bits);
  const match = new FseReader(tables.matchLengths, bits);
  for (let i = 0; i < size; i++) {
    const offsetCode = offset.symbol;
    offsets[i] = 2 ** offsetCode + bits.read(offsetCode);
    const matchCode = match.symbol;
    matchLengths[i] = (MATCH_BASES[matchCode] as number) + bits.read(MATCH_BITS[matchCode] ?? 0);
    const literalCode = literal.symbol;
    literalLengths[i] =
      (LITERAL_BASES[literalCode] as number) + bits.read(LITERAL_BITS[literalCode] ?? 0);
    if (i === size - 1) break;
    literal.next(bits);
    match.next(bits);
    offset.next(bits);
  }
  if (bits.left !== 0) throw damaged();
}
