/** The filter of new code for the simple reader of layer deltas (FORMAT.md section 6.2). */
export function simpleUnfilter(filtered: Buffer, r: number): Buffer {
  const bytes = Buffer.from(filtered);
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
  return bytes;
}

function operand(bytes: Buffer, i: number): number | undefined {
  const [a = 0, b = 0, c = 0] = bytes.subarray(i, i + 3);
  if (a === 0xe8) return i + 1;
  const isWide = a >= 0x48 && a <= 0x4f && (b === 0x8b || b === 0x8d);
  return isWide && (c & 0xc7) === 5 ? i + 3 : undefined;
}
