/** Kinds of block (RFC 8878, section 3.1.1.2). */
export const BLOCK_KIND = { RAW: 0, RLE: 1, COMPRESSED: 2 } as const;

/** Most content of a block, in bytes. */
export const MAX_BLOCK = 128 * 1024;

/** The header of a block (RFC 8878, section 3.1.1.2); the size of a run is that of its content. */
export function blockHeader(kind: number, size: number, last: boolean): Uint8Array {
  const field = Number(last) | (kind << 1) | (size << 3);
  return Uint8Array.of(field, field >> 8, field >> 16);
}
