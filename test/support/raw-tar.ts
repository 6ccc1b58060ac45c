/** One entry of a hand-made tar stream. Names are bytes as latin1 text; nothing is checked. */
export type RawEntry = {
  readonly name: string;
  /** Type flag of the header: `0` file (the default), `1` hard link, `2` symlink, `5` directory... */
  readonly type?: string;
  readonly content?: string | Uint8Array;
  readonly link?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Seconds since 1970, with decimals. */
  readonly mtime?: number | string;
  readonly major?: number;
  readonly minor?: number;
  readonly xattrs?: Readonly<Record<string, string | Uint8Array>>;
  /** Records that go into the pax header as they are. */
  readonly pax?: Readonly<Record<string, string>>;
};

function octal(block: Buffer, value: number, at: number, length: number): void {
  block.write(
    value
      .toString(8)
      .padStart(length - 1, '0')
      .slice(-(length - 1)),
    at,
    'latin1',
  );
}

function header(entry: RawEntry, name: string, type: string, size: number): Buffer {
  const block = Buffer.alloc(512);
  block.write(name.slice(0, 100), 0, 'latin1');
  octal(block, entry.mode ?? (type === '5' ? 0o755 : 0o644), 100, 8);
  octal(block, entry.uid ?? 0, 108, 8);
  octal(block, entry.gid ?? 0, 116, 8);
  octal(block, size, 124, 12);
  octal(block, Math.max(0, Math.floor(Number(entry.mtime ?? 1_700_000_000))), 136, 12);
  block.write(' '.repeat(8), 148, 'latin1');
  block.write(type, 156, 'latin1');
  block.write((entry.link ?? '').slice(0, 100), 157, 'latin1');
  block.write('ustar\x0000', 257, 'latin1');
  octal(block, entry.major ?? 0, 329, 8);
  octal(block, entry.minor ?? 0, 337, 8);
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return block;
}

function paxRecord(key: string, value: Uint8Array): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`, 'latin1'), value, Buffer.from('\n')]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length += 1;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

function paxRecords(entry: RawEntry): Buffer[] {
  const { name, link = '', mtime, xattrs = {}, pax = {} } = entry;
  const records: Record<string, string | Uint8Array> = {};
  if (name.length > 100) records.path = name;
  if (link.length > 100) records.linkpath = link;
  if (mtime !== undefined && !/^\d+$/.test(String(mtime))) records.mtime = String(mtime);
  for (const [key, value] of Object.entries(xattrs)) records[`SCHILY.xattr.${key}`] = value;
  return Object.entries({ ...records, ...pax }).map(([key, value]) =>
    paxRecord(key, typeof value === 'string' ? Buffer.from(value, 'latin1') : value),
  );
}

/** Makes a tar stream byte by byte, also such as no tool would write. */
export function rawTar(entries: readonly RawEntry[]): Buffer {
  const parts: Buffer[] = [];
  for (const entry of entries) {
    const records = Buffer.concat(paxRecords(entry));
    if (records.length > 0) {
      parts.push(header({ name: '' }, 'PaxHeaders/x', 'x', records.length), padded(records));
    }
    const { content = '', type = '0' } = entry;
    const bytes =
      typeof content === 'string' ? Buffer.from(content, 'latin1') : Buffer.from(content);
    parts.push(header(entry, entry.name, type, bytes.length), padded(bytes));
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}
