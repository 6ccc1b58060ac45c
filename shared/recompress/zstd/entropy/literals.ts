import { type HuffmanCodes, packStream } from './huffman.ts';

/** Kinds of literals section (RFC 8878, section 3.1.1.3.1.1). */
export const LITERALS_KIND = { RAW: 0, RLE: 1, COMPRESSED: 2, REPEAT: 3 } as const;

/** The header of literals that are not packed; `format` is 0, 1 or 3 for one, two or three bytes. */
export function plainHeader(kind: number, format: number, size: number): Uint8Array {
  if (format === 0) return Uint8Array.of(kind | (size << 3));
  const fields = kind | (format << 2) | (size << 4);
  return Uint8Array.of(fields, fields >> 8, fields >> 16).subarray(0, format === 1 ? 2 : 3);
}

/** The header of packed literals, in one stream with `format` 0, else in four. */
export function packedHeader(
  kind: number,
  format: number,
  size: number,
  packedSize: number,
): Uint8Array {
  const width = sizeWidth(format);
  let fields = (packedSize * 2 ** width + size) * 16 + (kind | (format << 2));
  return Uint8Array.from({ length: (4 + 2 * width) / 8 }, () => {
    const byte = fields % 256;
    fields = Math.floor(fields / 256);
    return byte;
  });
}

/** Bits of each of the two sizes in the header of packed literals, by its format. */
export function sizeWidth(format: number): number {
  return format === 3 ? 18 : format === 2 ? 14 : 10;
}

/**
 * Literals in one stream, or in four after three of their sizes (RFC 8878, section 3.1.1.3.1.6).
 * Undefined where a stream is longer than a size can say.
 */
export function packStreams(
  literals: Uint8Array,
  codes: HuffmanCodes,
  streams: 1 | 4,
): Uint8Array | undefined {
  const size = literals.length;
  const result = new Uint8Array(2 * size + 64);
  if (streams === 1) return result.subarray(0, packStream(literals, codes, result, 0));
  const segment = (size + 3) >> 2;
  let at = 6;
  for (let index = 0; index < 4; index++) {
    const part = literals.subarray(index * segment, Math.min(size, (index + 1) * segment));
    const end = packStream(part, codes, result, at);
    if (index < 3) {
      result[2 * index] = end - at;
      result[2 * index + 1] = (end - at) >> 8;
    }
    if (end - at > 0xffff) return undefined;
    at = end;
  }
  return result.subarray(0, at);
}
