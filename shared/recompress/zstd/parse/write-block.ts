import { damaged } from '../entropy/backward-bits.ts';
import { buildTable, type FseTable, singleSymbolTable } from '../entropy/fse.ts';
import type { HuffmanCodes } from '../entropy/huffman.ts';
import { readTree } from '../entropy/huffman-tree.ts';
import { LITERALS_KIND, packedHeader, packStreams, plainHeader } from '../entropy/literals.ts';
import { encodeSequences, packSequenceCount, sequenceCodes } from '../entropy/sequences.ts';
import { readTables, type Tables } from '../entropy/tables.ts';
import type { BlockParse } from './block-parse.ts';

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
    const streams = format === 0 ? 1 : 4;
    // So few that the last of four streams would begin beyond the end.
    if (streams === 4 && 3 * ((size + 3) >> 2) > size) throw damaged();
    const packed = packStreams(literals, codes, streams);
    if (packed === undefined) throw damaged();
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
