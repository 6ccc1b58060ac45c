import { SnapgateError } from '../../errors.ts';
import type { LayoutFiles, RandomAccess } from './layout-files.ts';

const BLOCK = 512;
/** Longest pax or GNU name record read, in bytes. */
const MAX_RECORD_BYTES = 64 * 1024;
/** Most members an archive may have. */
const MAX_MEMBERS = 100_000;

type Member = { readonly start: number; readonly size: number };
type Header = { readonly name: string; readonly size: number; readonly type: string };

/**
 * The files of an OCI archive, read in place: one pass over the headers notes where each member
 * stands (tar as POSIX pax and GNU write it), reads then go straight to it. A member that occurs
 * twice counts as its last. `end` is the
 * archive's length in bytes. The handle stays the caller's. Throws TAR_INVALID, LIMIT_EXCEEDED.
 */
export async function archiveFiles(
  handle: RandomAccess,
  end: number,
  name: string,
): Promise<LayoutFiles> {
  const members = await indexMembers(handle, end, name);
  return {
    name,
    find: async (path) => {
      const member = members.get(path);
      return member === undefined ? undefined : { handle, ...member, close: async () => {} };
    },
  };
}

async function indexMembers(
  handle: RandomAccess,
  end: number,
  where: string,
): Promise<Map<string, Member>> {
  const members = new Map<string, Member>();
  const invalid = (what: string) => new SnapgateError('TAR_INVALID', what, { where });
  let override: { path?: string; size?: number } = {};
  for (let at = 0; at + BLOCK <= end; ) {
    const header = parseHeader(await readExactly(handle, at, BLOCK), invalid);
    if (header === undefined) break;
    const size = override.size ?? header.size;
    const start = at + BLOCK;
    if (start + size > end) throw invalid('the archive is cut short');
    at = start + Math.ceil(size / BLOCK) * BLOCK;
    if (header.type === 'x' || header.type === 'L') {
      if (size > MAX_RECORD_BYTES) throw invalid('a header record is too long');
      const record = await readExactly(handle, start, size);
      override = { ...override, ...parseRecord(header.type, record, invalid) };
      continue;
    }
    if (header.type === '0' || header.type === '\0' || header.type === '7') {
      const path = (override.path ?? header.name).replace(/^(\.?\/)+/, '');
      members.set(path, { start, size });
      if (members.size > MAX_MEMBERS) {
        throw new SnapgateError('LIMIT_EXCEEDED', 'the archive has too many members', { where });
      }
    }
    override = {};
  }
  return members;
}

async function readExactly(handle: RandomAccess, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const { bytesRead } = await handle.read(buffer, done, length - done, at + done);
    if (bytesRead === 0) throw new SnapgateError('TAR_INVALID', 'the archive is cut short');
    done += bytesRead;
  }
  return buffer;
}

type Invalid = (what: string) => SnapgateError;

/** Parses a header block; undefined for the block of zeros that ends an archive. */
function parseHeader(block: Buffer, invalid: Invalid): Header | undefined {
  if (block.every((byte) => byte === 0)) return undefined;
  const sum = block.reduce((a, byte, i) => a + (i >= 148 && i < 156 ? 32 : byte), 0);
  if (parseNumber(block.subarray(148, 156), invalid) !== sum) {
    const packed = block[0] === 0x1f || block.readUInt32LE(0) === 0xfd2fb528;
    throw invalid(packed ? 'the archive is compressed: unpack it first' : 'not a tar archive');
  }
  const isUstar = block.toString('latin1', 257, 263) === 'ustar\0';
  const prefix = isUstar ? cString(block.subarray(345, 500)) : '';
  const base = cString(block.subarray(0, 100));
  return {
    name: prefix === '' ? base : `${prefix}/${base}`,
    size: parseNumber(block.subarray(124, 136), invalid),
    type: String.fromCharCode(block[156] ?? 0),
  };
}

function cString(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}

/** Octal text, or base 256 as GNU writes what does not fit. */
function parseNumber(field: Buffer, invalid: Invalid): number {
  if (((field[0] ?? 0) & 0x80) !== 0) {
    const value = field.subarray(1).reduce((a, byte) => a * 256 + byte, (field[0] ?? 0) & 0x7f);
    if (!Number.isSafeInteger(value)) throw invalid('a number in a header is too large');
    return value;
  }
  const text = cString(field).trim();
  if (!/^[0-7]*$/.test(text)) throw invalid('a number in a header is not octal');
  return text === '' ? 0 : Number.parseInt(text, 8);
}

/** What a pax header (`x`) or a GNU long name (`L`) says about the next member. */
function parseRecord(
  type: string,
  record: Buffer,
  invalid: Invalid,
): { path?: string; size?: number } {
  if (type === 'L') return { path: cString(record) };
  const found: { path?: string; size?: number } = {};
  for (let at = 0; at < record.length; ) {
    const space = record.indexOf(0x20, at);
    const length = space < 0 ? Number.NaN : Number(record.toString('latin1', at, space));
    if (!(length > space - at + 1) || at + length > record.length) {
      throw invalid('a pax record is malformed');
    }
    const [, key, value = ''] = /^([^=]*)=([\s\S]*)\n$/.exec(
      record.toString('utf8', space + 1, at + length),
    ) ?? [undefined, ''];
    if (key === 'path') found.path = value;
    if (key === 'size') {
      if (!/^[0-9]{1,15}$/.test(value)) throw invalid('a pax size is malformed');
      found.size = Number(value);
    }
    at += length;
  }
  return found;
}
