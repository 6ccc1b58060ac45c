import { SnapgateError } from '../../errors.ts';

/** A delta that no writer makes: damaged or hostile. */
export function invalidDelta(message: string, cause?: unknown): SnapgateError {
  return new SnapgateError('DELTA_INVALID', message, {
    hint: 'The delta is damaged or hostile; the full image can still be fetched.',
    ...(cause === undefined ? {} : { cause }),
  });
}

/** Fewer bytes than this are copied one by one: a view of them takes longer to make. */
const FEW = 32;

/** Copies `length` bytes of `from` from `at` into `target` from `start`; both must have them. */
export function copyBytes(
  target: Uint8Array,
  start: number,
  from: Uint8Array,
  at: number,
  length: number,
): void {
  if (length < FEW) {
    for (let i = 0; i < length; i += 1) target[start + i] = from[at + i] as number;
  } else target.set(from.subarray(at, at + length), start);
}

/** Adds `length` bytes of `from` from `at` to those of `target` from `start`, modulo 256 each. */
export function addBytes(
  target: Uint8Array,
  start: number,
  from: Uint8Array,
  at: number,
  length: number,
): void {
  for (let i = 0; i < length; i += 1) {
    target[start + i] = (target[start + i] as number) + (from[at + i] as number);
  }
}

/** The little-endian number of four bytes at `i`, signed. */
export function wordAt(bytes: Uint8Array, i: number): number {
  return (
    (bytes[i] as number) |
    ((bytes[i + 1] as number) << 8) |
    ((bytes[i + 2] as number) << 16) |
    ((bytes[i + 3] as number) << 24)
  );
}

/** Writes the lowest 32 bits of `word` at `i`, little-endian. */
export function putWord(bytes: Uint8Array, i: number, word: number): void {
  bytes[i] = word;
  bytes[i + 1] = word >> 8;
  bytes[i + 2] = word >> 16;
  bytes[i + 3] = word >> 24;
}

/** Reads bytes and numbers (FORMAT.md section 2) from the front of a buffer. Throws DELTA_INVALID. */
export class ByteReader {
  #bytes: Uint8Array = new Uint8Array(0);
  #at = 0;

  constructor(bytes?: Uint8Array) {
    if (bytes !== undefined) this.reset(bytes);
  }

  /** Goes on with other bytes, which are not copied. */
  reset(bytes: Uint8Array): void {
    this.#bytes = bytes;
    this.#at = 0;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  byte(): number {
    const byte = this.#bytes[this.#at];
    if (byte === undefined) throw invalidDelta('the delta is cut off');
    this.#at += 1;
    return byte;
  }

  number(): number {
    const first = this.byte();
    if (first < 0x80) return first;
    let value = first & 0x7f;
    for (let scale = 0x80; scale <= 2 ** 49; scale *= 0x80) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte >= 0x80) continue;
      if (byte === 0) throw invalidDelta('a number in the delta is not in its shortest form');
      if (value > Number.MAX_SAFE_INTEGER) break;
      return value;
    }
    throw invalidDelta('a number in the delta is too large');
  }

  signed(): number {
    const value = this.number();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** The next `length` bytes, not copied. */
  bytes(length: number): Uint8Array {
    if (length > this.left) throw invalidDelta('the delta is cut off');
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  /** Copies the next `length` bytes into `target` from `start`. */
  copyTo(target: Uint8Array, start: number, length: number): void {
    if (length > this.left) throw invalidDelta('the delta is cut off');
    copyBytes(target, start, this.#bytes, this.#at, length);
    this.#at += length;
  }

  /** Adds the next `length` bytes to those of `target` from `start`, modulo 256 each. */
  addTo(target: Uint8Array, start: number, length: number): void {
    if (length > this.left) throw invalidDelta('the delta is cut off');
    addBytes(target, start, this.#bytes, this.#at, length);
    this.#at += length;
  }
}

/** Collects bytes and numbers. */
export class ByteWriter {
  #bytes: Uint8Array;
  #length = 0;

  constructor(capacity = 256) {
    this.#bytes = new Uint8Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  byte(byte: number): void {
    if (this.#length === this.#bytes.length) this.#reserve(1);
    this.#bytes[this.#length++] = byte;
  }

  /** A whole number from 0 to 2^53 - 1. */
  number(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`no number: ${value}`);
    let rest = value;
    while (rest >= 0x80) {
      this.byte((rest % 0x80) | 0x80);
      rest = Math.floor(rest / 0x80);
    }
    this.byte(rest);
  }

  signed(value: number): void {
    this.number(value >= 0 ? 2 * value : -2 * value - 1);
  }

  bytes(bytes: Uint8Array): void {
    if (this.#length + bytes.length > this.#bytes.length) this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** What was collected; a view that the next write may change. */
  view(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** What was collected, as a copy; the writer is empty afterwards. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = this.#bytes.slice(0, this.#length);
    this.#length = 0;
    return taken as Uint8Array<ArrayBuffer>;
  }

  clear(): void {
    this.#length = 0;
  }

  #reserve(more: number): void {
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + more));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }
}
