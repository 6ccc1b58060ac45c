/** Entries of tar streams for the simple reader of layer deltas (FORMAT.md sections 5.1 and 5.4). */
export type Rec = { block: Buffer; data: Buffer };
export type Entry = { records: Rec[]; padding: Buffer };

export function padding(size: number): number {
  return (512 - (size % 512)) % 512;
}

export function typeOf(block: Buffer): string {
  return String.fromCharCode(block[156] as number);
}

export function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return end < 0 ? bytes : bytes.subarray(0, end);
}

export function octal(block: Buffer, at: number): number | undefined {
  const digits = block.toString('latin1', at, at + 11);
  return /^[0-7]{11}$/.test(digits) ? Number.parseInt(digits, 8) : undefined;
}

export function checksummed(block: Buffer): Buffer {
  block.fill(' ', 148, 156);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

export function join(records: readonly Rec[]): Buffer {
  return Buffer.concat(
    records.flatMap(({ block, data }) => [block, data, Buffer.alloc(padding(data.length))]),
  );
}

export function splitEntries(stream: Buffer): Entry[] {
  const entries: Entry[] = [];
  let records: Rec[] = [];
  for (let at = 0; at < stream.length; ) {
    const block = stream.subarray(at, at + 512);
    if (block.every((byte) => byte === 0)) break;
    at += 512;
    if ('xgLK'.includes(typeOf(block))) {
      const size = Number.parseInt(block.toString('latin1', 124, 136).trim(), 8);
      records.push({ block, data: stream.subarray(at, at + size) });
      at += size + padding(size);
      continue;
    }
    records.push({ block, data: Buffer.alloc(0) });
    const pad = padding(facts(records).size);
    entries.push({ records, padding: stream.subarray(at, at + pad) });
    at += pad;
    records = [];
  }
  return entries;
}

export function facts(records: readonly Rec[]): { path: string; size: number } {
  const own = (records.at(-1) as Rec).block;
  const text = (at: number, length: number) =>
    untilNul(own.subarray(at, at + length)).toString('latin1');
  let path = text(0, 100);
  const prefix = text(345, 155);
  if (own.toString('latin1', 257, 263) === 'ustar\0' && prefix !== '') path = `${prefix}/${path}`;
  let size = headerSize(own);
  const long = records.findLast(({ block }) => typeOf(block) === 'L');
  if (long !== undefined) path = untilNul(long.data).toString('latin1');
  const pax = records.findLast(({ block }) => typeOf(block) === 'x');
  for (const [key, value] of paxRecords(pax?.data ?? Buffer.alloc(0))) {
    if (value === '') continue;
    if (key === 'path') path = value;
    if (key === 'size') size = Number(value);
  }
  const parts = path.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw new Error('path leads out');
  return { path: parts.join('/'), size: '0\x007'.includes(typeOf(own)) ? size : 0 };
}

function headerSize(own: Buffer): number {
  if (own[124] === 0x80) return Number(BigInt(`0x${own.toString('hex', 125, 136)}`));
  const digits = own.toString('latin1', 124, 136).trimStart().split(/[ \0]/)[0] as string;
  return digits === '' ? 0 : Number.parseInt(digits, 8);
}

function* paxRecords(data: Buffer): Generator<[string, string]> {
  for (let at = 0; at < data.length; ) {
    const space = data.indexOf(' ', at);
    const length = Number(data.toString('latin1', at, space));
    if (!(length > 0)) throw new Error('pax');
    const [key, ...value] = data.toString('latin1', space + 1, at + length - 1).split('=');
    yield [key as string, value.join('=')];
    at += length;
  }
}
