/** Prediction of addresses for the simple reader of layer deltas (FORMAT.md section 6.1). */
export type Stretch = { offset: number; length: number; address: number };
export type Interval = { start: number; shift: number };
export type AddressMap = { source: Stretch[]; content: Stretch[]; intervals: Interval[] };

const OPERANDS = new Set(
  Buffer.from(
    '010309 0b1011131b2123 28292b2e2f313338393a3b54575859 5c5e63696b6f7e7f80818384858889 8a8b8dafb6b7bebfc6c7d6dbeff6f7ff'.replaceAll(
      ' ',
      '',
    ),
    'hex',
  ),
);

export function predict(map: AddressMap, mode: number, p: Buffer, q: number, r: number): void {
  const o = Buffer.from(p);
  if (mode === 2) {
    for (let i = 0; i + 8 <= o.length; i += 1) {
      if ((q + i) % 8 !== 0) continue;
      const y = newAddress(map, Number(o.readBigInt64LE(i)));
      if (y !== undefined) p.writeBigInt64LE(BigInt(y), i);
    }
    return;
  }
  for (let i = 0; i < o.length; ) {
    const found = operand(o, i);
    const done = found !== undefined && replaceOperand(map, o, p, found, q, r);
    i = found !== undefined && done ? found.k + 4 : i + 1;
  }
}

type Operand = { k: number; e: number; isRelative: boolean };

function operand(o: Buffer, i: number): Operand | undefined {
  const b = o[i] as number;
  if (b === 0xe8 || b === 0xe9) return { k: i + 1, e: 4, isRelative: true };
  const next = o[i + 1] ?? 0;
  if (b === 0x0f && next >= 0x80 && next <= 0x8f) return { k: i + 2, e: 4, isRelative: true };
  const before = i > 0 ? (o[i - 1] as number) : -1;
  if ((b & 0xc7) === 0x05 && OPERANDS.has(before)) {
    const zero = (b & 0x38) === 0;
    let e = 4;
    if ([0x6b, 0x80, 0x83, 0xc6].includes(before) || (before === 0xf6 && zero)) e = 5;
    if ([0x69, 0x81, 0xc7].includes(before) || (before === 0xf7 && zero)) e = 8;
    return { k: i + 1, e, isRelative: true };
  }
  if (b === 0xc7) return { k: i + 2, e: 0, isRelative: false };
  if (b === 0x68 || (b >= 0xb8 && b <= 0xbf)) return { k: i + 1, e: 0, isRelative: false };
  return undefined;
}

function replaceOperand(
  map: AddressMap,
  o: Buffer,
  p: Buffer,
  { k, e, isRelative }: Operand,
  q: number,
  r: number,
): boolean {
  if (k + 4 > o.length) return false;
  const x = o.readInt32LE(k);
  if (!isRelative) {
    const y = newAddress(map, x);
    if (y !== undefined) p.writeInt32LE(y | 0, k);
    return y !== undefined;
  }
  const s = addressOf(map.source, q + k);
  const t = addressOf(map.content, r + k);
  const y = s === undefined ? undefined : newAddress(map, s + e + x);
  if (y === undefined || t === undefined) return false;
  p.writeInt32LE((y - e - t) | 0, k);
  return true;
}

function addressOf(stretches: Stretch[], o: number): number | undefined {
  const found = stretches.find(({ offset, length }) => o >= offset && o < offset + length);
  return found && found.address + o - found.offset;
}

function newAddress(map: AddressMap, v: number): number | undefined {
  if (Math.abs(v) > 2 ** 52) return undefined;
  const found = map.source.find(({ address, length }) => v >= address && v < address + length);
  if (found === undefined) return undefined;
  const o = v - found.address + found.offset;
  const interval = map.intervals.findLast(({ start }) => start <= o);
  return interval && addressOf(map.content, o + interval.shift);
}
