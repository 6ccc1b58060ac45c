import { damaged } from '../entropy/backward-bits.ts';
import { buildTable, type FseTable, singleSymbolTable } from '../entropy/fse.ts';
import { type HuffmanCodes, packStream } from '../entropy/huffman.ts';
import { readTree } from '../entropy/huffman-tree.ts';
import { encodeSequences, packSequenceCount, sequenceCodes } from '../entropy/sequences.ts';
import { readTables, type Tables } from '../entropy/tables.ts';
import { type BlockParse, LITERALS_KIND } from './block-parse.ts';
import { sizeWidth } from './read-block.ts';

/** An encoder's table, and whether a symbol has a share in it. */
type Table = { readonly table: FseTable; readonly has: (symbol: number) => boolean };

const ENCODERS = {
  distribution(norm: Int16Array, tableLog: number): Table {
    return { table: buildTable(norm, tableLog), has: (symbol) => (norm[symbol] ?? 0) !== 0 };
  },
  single(symbol: number): Table {
    return { table: singleSymbolTable(symbol), has: (other) => other === symbol };
  },
};

/** Makes the compressed blocks of a frame again, one after the other. */
export class BlockWriter {
  #literals = new Uint8Array(0);
  #codes: HuffmanCodes | undefined;
  #tables: Tables<Table> = {
    ...{ literalLengths: undefined, offsets: undefined, matchLengths: undefined },
  };

  /** The next block, of its parse and its content. Throws a RangeError where they do not fit. */
  write(parse: BlockParse, content: Uint8Array): Buffer {
    const literals = this.#gather(parse, content);
    return Buffer.concat([...this.#packLiterals(parse, literals), ...this.#packSequences(parse)]);
  }

  #gather({ sequences, tail }: BlockParse, content: Uint8Array): Uint8Array {
    const { size, literalLengths, matchLengths } = sequences;
    if (this.#literals.length < content.length) this.#literals = new Uint8Array(content.length);
    const literals = this.#literals;
    let count = 0;
    let at = 0;
    for (let i = 0; i < size; i++) {
      for (const end = at + (literalLengths[i] as number); at < end; at++) {
        literals[count++] = content[at] as number;
      }
      at += (matchLengths[i] as number) + 3;
    }
    literals.set(content.subarray(at, at + tail), count);
    return literals.subarray(0, count + tail);
  }

  #packLiterals(parse: BlockParse, literals: Uint8Array): Uint8Array[] {
    const { literalsKind: kind, literalsFormat: format, tree } = parse;
    const size = literals.length;
    if (kind === LITERALS_KIND.RAW) return [plainHeader(kind, format, size), literals];
    if (kind === LITERALS_KIND.RLE) {
      return [plainHeader(kind, format, size), literals.subarray(0, 1)];
    }
    if (kind === LITERALS_KIND.COMPRESSED) this.#codes = readTree(tree);
    const codes = this.#codes;
    if (codes === undefined || !literals.every((byte) => codes.lengths[byte] !== 0)) {
      throw damaged();
    }
    const packed = packStreams(literals, codes, format === 0 ? 1 : 4);
    const packedSize = tree.length + packed.length;
    return [packedHeader(kind, format, size, packedSize), tree, packed];
  }

  #packSequences(parse: BlockParse): Uint8Array[] {
    const { sequences, tableKinds, tables: described } = parse;
    const count = packSequenceCount(sequences.size);
    if (sequences.size === 0) return [count];
    const { tables, size } = readTables(tableKinds, described, this.#tables, ENCODERS);
    const codes = sequenceCodes(sequences);
    const covered =
      size === described.length &&
      codes.literalLengths.every(tables.literalLengths.has) &&
      codes.offsets.every(tables.offsets.has) &&
      codes.matchLengths.every(tables.matchLengths.has);
    if (!covered) throw damaged();
    this.#tables = tables;
    const stream = encodeSequences(sequences, codes, {
      literalLengths: tables.literalLengths.table,
      offsets: tables.offsets.table,
      matchLengths: tables.matchLengths.table,
    });
    return [count, Uint8Array.of(tableKinds), described, stream];
  }
}

/** In one stream, or in four after three of their sizes (RFC 8878, section 3.1.1.3.1.6). */
function packStreams(literals: Uint8Array, codes: HuffmanCodes, streams: 1 | 4): Uint8Array {
  const size = literals.length;
  const result = new Uint8Array(2 * size + 64);
  if (streams === 1) return result.subarray(0, packStream(literals, codes, result, 0));
  const segment = (size + 3) >> 2;
  if (3 * segment > size) throw damaged();
  let at = 6;
  for (let index = 0; index < 4; index++) {
    const part = literals.subarray(index * segment, Math.min(size, (index + 1) * segment));
    const end = packStream(part, codes, result, at);
    if (index < 3) {
      result[2 * index] = end - at;
      result[2 * index + 1] = (end - at) >> 8;
    }
    at = end;
  }
  return result.subarray(0, at);
}

function plainHeader(kind: number, format: number, size: number): Uint8Array {
  if (format === 0) return Uint8Array.of(kind | (size << 3));
  const fields = kind | (format << 2) | (size << 4);
  return Uint8Array.of(fields, fields >> 8, fields >> 16).subarray(0, format === 1 ? 2 : 3);
}

function packedHeader(kind: number, format: number, size: number, packedSize: number): Uint8Array {
  const width = sizeWidth(format);
  let fields = (packedSize * 2 ** width + size) * 16 + (kind | (format << 2));
  return Uint8Array.from({ length: (4 + 2 * width) / 8 }, () => {
    const byte = fields % 256;
    fields = Math.floor(fields / 256);
    return byte;
  });
}
