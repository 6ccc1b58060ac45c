const MIN_TABLE_LOG = 5;

/** Collects the bits of a table description, from the lowest up. */
class Bits {
  readonly bytes: number[] = [];
  #held = 0;
  #heldBits = 0;

  add(value: number, count: number): void {
    this.#held |= value << this.#heldBits;
    this.#heldBits += count;
    while (this.#heldBits >= 8) {
      this.bytes.push(this.#held & 0xff);
      this.#held >>>= 8;
      this.#heldBits -= 8;
    }
  }

  end(): Uint8Array {
    if (this.#heldBits > 0) this.bytes.push(this.#held & 0xff);
    return Uint8Array.from(this.bytes);
  }
}

/** The description of a normalized distribution (RFC 8878, section 4.1.1). */
export function describeTable(norm: Int16Array, tableLog: number): Uint8Array {
  const bits = new Bits();
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
  return bits.end();
}

/** After a zero: how many more follow, in threes. Returns the first symbol that is not zero. */
function describeZeros(bits: Bits, norm: Int16Array, from: number, remaining: number): number {
  if (from >= norm.length || remaining <= 1) return from;
  let symbol = from;
  while (symbol < norm.length && norm[symbol] === 0) symbol++;
  let zeros = symbol - from;
  for (; zeros >= 3; zeros -= 3) bits.add(3, 2);
  bits.add(zeros, 2);
  return symbol;
}
