/**
 * The alphabets of DEFLATE (RFC 1951, section 3.2.5) as look-up tables: symbols for lengths and
 * distances, and their extra bits.
 */

export const END_OF_BLOCK = 256;
/** Literals, the end of block and 29 length symbols. */
export const LITERAL_SYMBOLS = 286;
export const DISTANCE_SYMBOLS = 30;
export const MIN_MATCH = 3;
export const MAX_MATCH = 258;

export const LENGTH_EXTRA_BITS = Uint8Array.of(
  ...[0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0],
);

export const DISTANCE_EXTRA_BITS = Uint8Array.from({ length: DISTANCE_SYMBOLS }, (_, symbol) =>
  symbol < 4 ? 0 : (symbol >> 1) - 1,
);

/** Index of the length symbol (0 to 28) by match length less 3. */
export const LENGTH_SYMBOL = new Uint8Array(256);
/** Smallest match length less 3 of each length symbol. */
export const LENGTH_BASE = new Uint8Array(29);
/** Smallest distance less 1 of each distance symbol. */
export const DISTANCE_BASE = new Uint16Array(DISTANCE_SYMBOLS);

const NEAR_DISTANCE_SYMBOL = new Uint8Array(256);
const FAR_DISTANCE_SYMBOL = new Uint8Array(256);

for (let symbol = 0, length = 0; symbol < 28; symbol++) {
  LENGTH_BASE[symbol] = length;
  const count = 1 << (LENGTH_EXTRA_BITS[symbol] ?? 0);
  LENGTH_SYMBOL.fill(symbol, length, length + count);
  length += count;
}
// Length 258 has a symbol of its own.
LENGTH_SYMBOL[255] = 28;
LENGTH_BASE[28] = 0;

for (let symbol = 0, distance = 0; symbol < DISTANCE_SYMBOLS; symbol++) {
  DISTANCE_BASE[symbol] = distance;
  const end = distance + (1 << (DISTANCE_EXTRA_BITS[symbol] ?? 0));
  if (distance < 256) NEAR_DISTANCE_SYMBOL.fill(symbol, distance, end);
  else FAR_DISTANCE_SYMBOL.fill(symbol, distance >> 7, end >> 7);
  distance = end;
}

/** The distance symbol (0 to 29) of a distance less 1. */
export function distanceSymbol(distance: number): number {
  return distance < 256
    ? (NEAR_DISTANCE_SYMBOL[distance] as number)
    : (FAR_DISTANCE_SYMBOL[distance >> 7] as number);
}
