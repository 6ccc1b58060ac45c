/** An entry of a tar stream to be made. */
export type TarSpec = {
  readonly name: string;
  /** `file` when absent. */
  readonly type?: 'file' | 'directory' | 'symlink' | 'hardlink';
  readonly content?: Buffer;
  readonly mode?: number;
  readonly mtime?: number;
  readonly linkName?: string;
};

const FLAGS = { file: '0', hardlink: '1', symlink: '2', directory: '5' } as const;

/** A tar stream as Go writes it: ustar, with a pax header for long names. Names are Latin-1. */
export function tarOf(specs: readonly TarSpec[]): Buffer {
  const parts: Buffer[] = [];
  for (const spec of specs) {
    const { name, type = 'file', content = Buffer.alloc(0) } = spec;
    const linkName = type === 'symlink' || type === 'hardlink' ? (spec.linkName ?? 'x') : '';
    const pax = [
      ...(name.length > 100 ? [['path', name] as const] : []),
      ...(linkName.length > 100 ? [['linkpath', linkName] as const] : []),
    ];
    if (pax.length > 0) {
      const data = Buffer.from(pax.map(([key, value]) => paxRecord(key, value)).join(''), 'latin1');
      const header = block(`PaxHeaders.0/${name}`, 'x', data.length, { mode: 0, mtime: 0 });
      parts.push(header, padded(data));
    }
    const size = type === 'file' ? content.length : 0;
    const { mode = 0o644, mtime = 0 } = spec;
    parts.push(block(name, FLAGS[type], size, { mode, mtime }, linkName));
    if (type === 'file') parts.push(padded(content));
  }
  return Buffer.concat([...parts, Buffer.alloc(1024)]);
}

function paxRecord(key: string, value: string): string {
  let length = key.length + value.length + 3;
  while (`${length}`.length + key.length + value.length + 3 !== length) {
    length = `${length}`.length + key.length + value.length + 3;
  }
  return `${length} ${key}=${value}\n`;
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((512 - (bytes.length % 512)) % 512)]);
}

function block(
  name: string,
  flag: string,
  size: number,
  { mode, mtime }: { mode: number; mtime: number },
  linkName = '',
): Buffer {
  const bytes = Buffer.alloc(512);
  bytes.write(name.slice(0, 100), 0, 'latin1');
  const number = (value: number, at: number, digits: number) =>
    bytes.write(`${value.toString(8).padStart(digits, '0')}\0`, at, 'latin1');
  number(mode, 100, 7);
  number(0, 108, 7);
  number(0, 116, 7);
  number(size, 124, 11);
  number(mtime, 136, 11);
  bytes.write(`        ${flag}${linkName.slice(0, 100)}`, 148, 'latin1');
  bytes.write('ustar\x0000', 257, 'latin1');
  const sum = bytes.reduce((total, byte) => total + byte, 0);
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return bytes;
}
