import { BitStream } from './bit-stream.ts';

/** Huffman codes of bytes: `lengths` in bits, 0 for bytes without a code. */
export type HuffmanCodes = {
  readonly maxLength: number;
  readonly lengths: Uint8Array;
  readonly codes: Uint16Array;
};

/** Longest code that counts below, in bits. */
const LONGEST = 12;

/** The codes that follow from their lengths (RFC 8878, section 4.2.1.3). */
export function assignCodes(lengths: Uint8Array, maxLength: number): HuffmanCodes {
  const perLength = new Uint16Array(LONGEST + 2);
  for (const length of lengths) perLength[length] = (perLength[length] as number) + 1;
  const next = new Uint16Array(LONGEST + 2);
  let first = 0;
  for (let length = maxLength; length > 0; length--) {
    next[length] = first;
    first = (first + (perLength[length] as number)) >> 1;
  }
  const codes = new Uint16Array(256);
  for (let symbol = 0; symbol < 256; symbol++) {
    const length = lengths[symbol] as number;
    if (length === 0) continue;
    codes[symbol] = next[length] as number;
    next[length] = (next[length] as number) + 1;
  }
  return { maxLength, lengths, codes };
}

/** Literals from the last to the first, as they are read backwards. */
export function packStream(
  literals: Uint8Array,
  { lengths, codes }: HuffmanCodes,
  target: Uint8Array,
  start: number,
): number {
  const stream = new BitStream(target, start);
  for (let index = literals.length - 1; index >= 0; index--) {
    const byte = literals[index] as number;
    stream.add(codes[byte] as number, lengths[byte] as number);
  }
  return stream.close();
}
