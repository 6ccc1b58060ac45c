import { BitStream } from './bit-stream.ts';

const MIN_TABLE_LOG = 5;

/** Room for the 256 symbols that a table may have, at the most bits that one takes. */
const MAX_DESCRIPTION = 512;

/** The description of a normalized distribution (RFC 8878, section 4.1.1). */
export function describeTable(norm: Int16Array, tableLog: number): Uint8Array {
  const bytes = new Uint8Array(MAX_DESCRIPTION);
  const bits = new BitStream(bytes, 0);
  bits.add(tableLog - MIN_TABLE_LOG, 4);
  let remaining = (1 << tableLog) + 1;
  let threshold = 1 << tableLog;
  let width = tableLog + 1;
  for (let symbol = 0; symbol < norm.length && remaining > 1; ) {
    const share = norm[symbol++] as number;
    const most = 2 * threshold - 1 - remaining;
    remaining -= Math.abs(share);
    let value = share + 1;
    if (value >= threshold) value += most;
    bits.add(value, value < most ? width - 1 : width);
    while (remaining < threshold && threshold > 0) {
      width--;
      threshold >>= 1;
    }
    if (share === 0) symbol = describeZeros(bits, norm, symbol, remaining);
  }
  return bytes.slice(0, bits.end());
}

/** After a zero: how many more follow, in threes. Returns the first symbol that is not zero. */
function describeZeros(bits: BitStream, norm: Int16Array, from: number, remaining: number): number {
  if (from >= norm.length || remaining <= 1) return from;
  let symbol = from;
  while (symbol < norm.length && norm[symbol] === 0) symbol++;
  let zeros = symbol - from;
  for (; zeros >= 3; zeros -= 3) bits.add(3, 2);
  bits.add(zeros, 2);
  return symbol;
}
