/** Bytes of a window that is sampled. */
const WINDOW = 32;
/** How many samples stand for a file. */
export const SKETCH_SIZE = 16;
/** Files below this size, in bytes, are told apart by their names alone. */
const MIN_SIZE = 256;

/** Turns the order of unsigned 32-bit numbers into that of signed ones. */
const SIGN = 0x80000000 | 0;

/** Random values for bytes, the same in every run. */
const GEAR = gearTable();

function gearTable(): Int32Array {
  let state = 0x1234567;
  return Int32Array.from({ length: 256 }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return mixed ^ (mixed >>> 14);
  });
}

/**
 * A sketch of a file's content (min-hash, Broder): of the hashes of all windows of 32 bytes the
 * smallest 16. Files that share many windows share many of them.
 */
export class Sketcher {
  readonly #smallest: number[] = [];
  #limit = 0xffffffff;
  #hash = 0;
  #seen = 0;

  /** Takes the next bytes of the file. */
  update(bytes: Uint8Array): void {
    let hash = this.#hash;
    let at = 0;
    for (; this.#seen < WINDOW - 1 && at < bytes.length; at += 1, this.#seen += 1) {
      const byte = bytes[at] as number;
      hash = ((hash << 1) + (GEAR[byte] as number)) | 0;
    }
    // Compared as signed numbers, of which V8 makes one instruction; others would be floating-point.
    let limit = this.#limit ^ SIGN;
    const gear = GEAR;
    const end = bytes.length;
    for (; at < end; at += 1) {
      hash = ((hash << 1) + (gear[bytes[at] as number] as number)) | 0;
      const mixed = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
      if ((mixed ^ SIGN) >= limit) continue;
      this.#add(mixed >>> 0);
      limit = this.#limit ^ SIGN;
    }
    this.#hash = hash;
  }

  /** The samples, smallest first; empty for a file that is too small. */
  finish(size: number): Uint32Array {
    return Uint32Array.from(size < MIN_SIZE ? [] : this.#smallest);
  }

  #add(value: number): void {
    const values = this.#smallest;
    let at = values.length;
    while (at > 0 && (values[at - 1] as number) > value) at -= 1;
    if (values[at - 1] === value) return;
    values.splice(at, 0, value);
    if (values.length > SKETCH_SIZE) values.pop();
    if (values.length === SKETCH_SIZE) this.#limit = values[SKETCH_SIZE - 1] as number;
  }
}

/** The share of samples that two sketches have in common, 0 to 1. */
export function resemblance(a: Uint32Array, b: Uint32Array): number {
  if (a.length === 0 || b.length === 0) return 0;
  let common = 0;
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    const left = a[i] as number;
    const right = b[j] as number;
    if (left === right) common += 1;
    if (left <= right) i += 1;
    if (right <= left) j += 1;
  }
  return common / Math.max(a.length, b.length);
}
