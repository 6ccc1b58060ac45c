/**
 * XXH64 with seed 0 (the xxHash specification, section "XXH64 algorithm description"), of which zstd
 * frames carry the lower half as their checksum.
 */
const PRIME_1 = 0x9e3779b185ebca87n;
const PRIME_2 = 0xc2b2ae3d27d4eb4fn;
const PRIME_3 = 0x165667b19e3779f9n;
const PRIME_4 = 0x85ebca77c2b2ae63n;
const PRIME_5 = 0x27d4eb2f165667c5n;

const STRIPE = 32;

/** Arithmetic modulo 2^64; in this form it is done on machine words. */
function add(a: bigint, b: bigint): bigint {
  return BigInt.asUintN(64, a + b);
}

function multiply(a: bigint, b: bigint): bigint {
  return BigInt.asUintN(64, a * b);
}

function rotate(value: bigint, by: bigint): bigint {
  return BigInt.asUintN(64, value << by) | (value >> (64n - by));
}

function round(lane: bigint, input: bigint): bigint {
  return multiply(rotate(add(lane, multiply(input, PRIME_2)), 31n), PRIME_1);
}

function merge(hash: bigint, lane: bigint): bigint {
  return add(multiply(hash ^ round(0n, lane), PRIME_1), PRIME_4);
}

export class Xxh64 {
  #a = add(PRIME_1, PRIME_2);
  #b = PRIME_2;
  #c = 0n;
  #d = BigInt.asUintN(64, -PRIME_1);
  readonly #stripe = new Uint8Array(STRIPE);
  #held = 0;
  #size = 0;

  update(bytes: Uint8Array): void {
    this.#size += bytes.length;
    let at = 0;
    if (this.#held > 0) {
      at = Math.min(STRIPE - this.#held, bytes.length);
      this.#stripe.set(bytes.subarray(0, at), this.#held);
      this.#held += at;
      if (this.#held < STRIPE) return;
      this.#takeStripes(this.#stripe);
      this.#held = 0;
    }
    const end = bytes.length - ((bytes.length - at) % STRIPE);
    this.#takeStripes(bytes.subarray(at, end));
    this.#stripe.set(bytes.subarray(end));
    this.#held = bytes.length - end;
  }

  #takeStripes(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let a = this.#a;
    let b = this.#b;
    let c = this.#c;
    let d = this.#d;
    for (let at = 0; at < bytes.length; at += STRIPE) {
      a = round(a, view.getBigUint64(at, true));
      b = round(b, view.getBigUint64(at + 8, true));
      c = round(c, view.getBigUint64(at + 16, true));
      d = round(d, view.getBigUint64(at + 24, true));
    }
    this.#a = a;
    this.#b = b;
    this.#c = c;
    this.#d = d;
  }

  digest(): bigint {
    let hash = add(PRIME_5, BigInt(this.#size));
    if (this.#size >= STRIPE) {
      const sum = add(rotate(this.#a, 1n), rotate(this.#b, 7n));
      hash = add(add(sum, rotate(this.#c, 12n)), rotate(this.#d, 18n));
      for (const lane of [this.#a, this.#b, this.#c, this.#d]) hash = merge(hash, lane);
      hash = add(hash, BigInt(this.#size));
    }
    hash = this.#takeRest(hash);
    hash = multiply(hash ^ (hash >> 33n), PRIME_2);
    hash = multiply(hash ^ (hash >> 29n), PRIME_3);
    return hash ^ (hash >> 32n);
  }

  #takeRest(start: bigint): bigint {
    let hash = start;
    const rest = this.#stripe.subarray(0, this.#held);
    const view = new DataView(rest.buffer, rest.byteOffset, rest.length);
    let at = 0;
    for (; at + 8 <= rest.length; at += 8) {
      hash = multiply(rotate(hash ^ round(0n, view.getBigUint64(at, true)), 27n), PRIME_1);
      hash = add(hash, PRIME_4);
    }
    if (at + 4 <= rest.length) {
      hash ^= multiply(BigInt(view.getUint32(at, true)), PRIME_1);
      hash = add(multiply(rotate(hash, 23n), PRIME_2), PRIME_3);
      at += 4;
    }
    for (; at < rest.length; at++) {
      hash ^= multiply(BigInt(rest[at] as number), PRIME_5);
      hash = multiply(rotate(hash, 11n), PRIME_1);
    }
    return hash;
  }
}
