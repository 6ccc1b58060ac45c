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
  if (mode === 3) {
    for (let i = 0; i + 4 <= o.length; i += 1) {
      if ((q + i) % 4 === 0) arm64(map, o, p, i, q, r);
    }
    return;
  }
  if (mode >= 4) words(map, o, p, { mode, q, r });
  else code(map, o, p, q, r);
}

function code(map: AddressMap, o: Buffer, p: Buffer, q: number, r: number): void {
  for (let i = 0; i < o.length; ) {
    const found = operand(o, i);
    const done = found !== undefined && replaceOperand(map, o, p, found, q, r);
    i = found !== undefined && done ? found.k + 4 : i + 1;
  }
}

function words(
  map: AddressMap,
  o: Buffer,
  p: Buffer,
  { mode, q, r }: { mode: number; q: number; r: number },
): void {
  for (let i = 0; i + 4 <= o.length; i += 1) {
    if ((q + i) % 4 !== 0) continue;
    const s = mode === 4 ? addressOf(map.source, q + i) : 0;
    const t = mode === 4 ? addressOf(map.content, r + i) : 0;
    if (s === undefined || t === undefined) continue;
    const y = newAddress(map, s + o.readInt32LE(i));
    if (y !== undefined) p.writeInt32LE((y - t) | 0, i);
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

/** Bits `from` to `to` of a word. */
const bits = (word: number, from: number, to: number) =>
  Math.floor(word / 2 ** from) % 2 ** (to - from + 1);

function withBits(word: number, from: number, to: number, value: number): number {
  const room = 2 ** (to - from + 1);
  const field = ((value % room) + room) % room;
  return word + (field - bits(word, from, to)) * 2 ** from;
}

const signed = (value: number, width: number) =>
  value >= 2 ** (width - 1) ? value - 2 ** width : value;

function arm64(map: AddressMap, o: Buffer, p: Buffer, i: number, q: number, r: number): void {
  const w = o.readUInt32LE(i);
  const s = addressOf(map.source, q + i);
  const t = addressOf(map.content, r + i);
  if (s === undefined || t === undefined) return;
  if (bits(w, 26, 30) === 5) {
    const y = newAddress(map, s + 4 * signed(bits(w, 0, 25), 26));
    if (y !== undefined) p.writeUInt32LE(withBits(w, 0, 25, Math.floor((y - t) / 4)), i);
  }
  if (bits(w, 31, 31) !== 1 || bits(w, 24, 28) !== 16) return;
  const x = signed(bits(w, 5, 23) * 4 + bits(w, 29, 30), 21);
  const use = [i + 4, i + 8, i + 12].find(
    (k) =>
      k + 4 <= o.length &&
      bits(o.readUInt32LE(k), 5, 9) === bits(w, 0, 4) &&
      scale(o.readUInt32LE(k)) !== undefined,
  );
  const u = use === undefined ? 0 : o.readUInt32LE(use);
  const unit = 2 ** (scale(u) ?? 0);
  const d = use === undefined ? 0 : bits(u, 10, 21) * unit;
  const y = newAddress(map, 4096 * (Math.floor(s / 4096) + x) + d);
  if (y === undefined) return;
  const pages = Math.floor(y / 4096) - Math.floor(t / 4096);
  p.writeUInt32LE(withBits(withBits(w, 29, 30, pages), 5, 23, Math.floor(pages / 4)), i);
  const low = y - 4096 * Math.floor(y / 4096);
  if (use !== undefined && low % unit === 0) {
    p.writeUInt32LE(withBits(u, 10, 21, low / unit), use);
  }
}

function scale(u: number): number | undefined {
  if (bits(u, 22, 31) === 0x244) return 0;
  if (bits(u, 27, 29) !== 7 || bits(u, 24, 25) !== 1) return undefined;
  const size = bits(u, 30, 31);
  return size === 0 && bits(u, 26, 26) === 1 && bits(u, 23, 23) === 1 ? 4 : size;
}
