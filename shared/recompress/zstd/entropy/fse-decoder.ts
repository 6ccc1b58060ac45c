import { type BackwardBits, damaged } from './backward-bits.ts';
import { highBit } from './bit-stream.ts';
import { spread } from './fse.ts';

/** A finite state entropy decoder of one distribution (RFC 8878, section 4.1). */
export type FseDecoder = {
  readonly tableLog: number;
  readonly symbols: Uint8Array;
  readonly bits: Uint8Array;
  readonly bases: Uint16Array;
};

/** Builds the decoder of a normalized distribution. */
export function buildDecoder(norm: Int16Array, tableLog: number): FseDecoder {
  const size = 1 << tableLog;
  const symbols = spread(norm, size);
  const next = Uint16Array.from(norm, Math.abs);
  const bits = new Uint8Array(size);
  const bases = new Uint16Array(size);
  for (let state = 0; state < size; state++) {
    const symbol = symbols[state] as number;
    const share = next[symbol] as number;
    next[symbol] = share + 1;
    bits[state] = tableLog - highBit(share);
    bases[state] = (share << (bits[state] as number)) - size;
  }
  return { tableLog, symbols, bits, bases };
}

/** The decoder of a distribution that has one symbol only. */
export function singleSymbolDecoder(symbol: number): FseDecoder {
  const one = new Uint8Array(1);
  return { tableLog: 0, symbols: Uint8Array.of(symbol), bits: one, bases: new Uint16Array(1) };
}

/** A normalized distribution and how many bytes its description takes. */
export type Distribution = {
  readonly norm: Int16Array;
  readonly tableLog: number;
  readonly size: number;
};

/** Reads the description of a distribution (RFC 8878, section 4.1.1). Throws a RangeError. */
export function readDistribution(
  bytes: Uint8Array,
  maxTableLog: number,
  maxSymbol: number,
): Distribution {
  let at = 0;
  const peek = (count: number) => {
    const byte = at >>> 3;
    const held =
      (bytes[byte] ?? 0) | ((bytes[byte + 1] ?? 0) << 8) | ((bytes[byte + 2] ?? 0) << 16);
    return (held >>> (at & 7)) & ((1 << count) - 1);
  };
  const tableLog = peek(4) + 5;
  at = 4;
  if (tableLog > maxTableLog) throw damaged();
  const norm = new Int16Array(maxSymbol + 1);
  let remaining = (1 << tableLog) + 1;
  let threshold = 1 << tableLog;
  let width = tableLog + 1;
  let symbol = 0;
  while (remaining > 1 && symbol <= maxSymbol) {
    const most = 2 * threshold - 1 - remaining;
    const small = peek(width - 1);
    let value: number;
    if (small < most) {
      value = small;
      at += width - 1;
    } else {
      value = peek(width);
      if (value >= threshold) value -= most;
      at += width;
    }
    const share = value - 1;
    remaining -= Math.abs(share);
    norm[symbol++] = share;
    while (remaining < threshold) {
      width--;
      threshold >>= 1;
    }
    if (share === 0) {
      for (let more = 3; more === 3; ) {
        more = peek(2);
        at += 2;
        symbol += more;
      }
    }
  }
  const size = (at + 7) >>> 3;
  if (remaining !== 1 || symbol > maxSymbol + 1 || size > bytes.length) throw damaged();
  return { norm: norm.subarray(0, symbol), tableLog, size };
}

/** The state of one decoder. */
export class FseReader {
  readonly #table: FseDecoder;
  #state: number;

  constructor(table: FseDecoder, bits: BackwardBits) {
    this.#table = table;
    this.#state = bits.read(table.tableLog);
  }

  get symbol(): number {
    return this.#table.symbols[this.#state] as number;
  }

  next(bits: BackwardBits): void {
    const { bases, bits: widths } = this.#table;
    this.#state = (bases[this.#state] as number) + bits.read(widths[this.#state] as number);
  }
}
