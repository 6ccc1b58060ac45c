/** The filter of new code for the simple reader of layer deltas (FORMAT.md section 6.2). */
export function simpleUnfilter(filter: number, filtered: Buffer, r: number): Buffer {
  const bytes = Buffer.from(filtered);
  if (filter === 2) unfilterArm64(bytes, r);
  else unfilterX86(bytes, r);
  return bytes;
}

function unfilterArm64(bytes: Buffer, r: number): void {
  for (let i = 0; i + 4 <= bytes.length; i += 1) {
    if ((r + i) % 4 !== 0) continue;
    const w = BigInt(bytes.readUInt32LE(i));
    const field = (from: bigint, count: number) => BigInt.asUintN(count, w >> from);
    if (field(26n, 6) === 0b100101n) {
      const x = BigInt.asUintN(26, w - BigInt((r + i) / 4));
      bytes.writeUInt32LE(Number((0b100101n << 26n) | x), i);
    } else if (field(31n, 1) === 1n && field(24n, 5) === 0b10000n) {
      const page = BigInt(Math.floor((r + i) / 4096));
      const x = BigInt.asUintN(21, ((field(5n, 19) << 2n) | field(29n, 2)) - page);
      const rest = (1n << 31n) | (0b10000n << 24n) | field(0n, 5);
      bytes.writeUInt32LE(Number(rest | ((x & 3n) << 29n) | ((x >> 2n) << 5n)), i);
    }
  }
}

function unfilterX86(bytes: Buffer, r: number): void {
  const n = bytes.length;
  for (let i = 0; i < n; ) {
    const k = operand(bytes, i);
    if (k === undefined || k + 4 > n) {
      i += 1;
      continue;
    }
    const x = bytes.readInt32LE(k);
    if (x >= -(2 ** 24) && x < 2 ** 24) {
      bytes.writeInt32LE(Number(BigInt.asIntN(25, BigInt(x - r - k - 4))), k);
    }
    i = k + 4;
  }
}

function operand(bytes: Buffer, i: number): number | undefined {
  const [a = 0, b = 0, c = 0] = bytes.subarray(i, i + 3);
  if (a === 0xe8) return i + 1;
  const isWide = a >= 0x48 && a <= 0x4f && (b === 0x8b || b === 0x8d);
  return isWide && (c & 0xc7) === 5 ? i + 3 : undefined;
}
