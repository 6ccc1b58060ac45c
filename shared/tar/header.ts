import { SnapgateError } from '../errors.ts';

/** Size of a tar block in bytes. */
export const BLOCK = 512;

/** The fields of one 512-byte header block, before any extension is applied (POSIX ustar, GNU tar). */
export type RawHeader = {
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly typeFlag: string;
  readonly linkName: string;
  readonly devMajor: number;
  readonly devMinor: number;
};

/** Text of a field up to its first NUL, one byte a character. */
function text(block: Buffer, start: number, length: number): string {
  const end = block.indexOf(0, start);
  return block.toString('latin1', start, end < 0 || end > start + length ? start + length : end);
}

/**
 * A numeric field: octal with leading spaces and a NUL or space at its end, or base-256 (GNU) when
 * the first bit is set. Throws TAR_INVALID when it is neither, or beyond 2^53.
 */
export function parseNumber(block: Buffer, start: number, length: number): number {
  const first = block[start] ?? 0;
  if (first & 0x80) {
    const negative = (first & 0x40) !== 0;
    let value = negative ? -1n : 0n;
    for (let i = 0; i < length; i += 1) {
      const byte = BigInt(i === 0 ? first & (negative ? 0xff : 0x7f) : (block[start + i] ?? 0));
      value = (value << 8n) | byte;
    }
    const number = Number(BigInt.asIntN(length * 8, value));
    if (Number.isSafeInteger(number)) return number;
    throw new SnapgateError('TAR_INVALID', 'a number in a tar header is too large');
  }
  const digits = text(block, start, length).trim();
  if (digits === '') return 0;
  if (!/^[0-7]+$/.test(digits)) {
    throw new SnapgateError('TAR_INVALID', 'a number in a tar header is not octal');
  }
  return Number.parseInt(digits, 8);
}

/** Whether all bytes of a block are zero, as the two blocks at the end of an archive are. */
export function isZeroBlock(block: Buffer): boolean {
  for (let i = 0; i < block.length; i += 1) if (block[i] !== 0) return false;
  return true;
}

function checksumMatches(block: Buffer): boolean {
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK; i += 1) {
    const byte = i >= 148 && i < 156 ? 0x20 : (block[i] ?? 0);
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  const stated = parseNumber(block, 148, 8);
  return stated === unsigned || stated === signed;
}

/** Parses one header block. Throws TAR_INVALID for a wrong checksum or unreadable field. */
export function parseHeader(block: Buffer): RawHeader {
  if (!checksumMatches(block)) {
    throw new SnapgateError('TAR_INVALID', 'a tar header has a wrong checksum');
  }
  const magic = block.toString('latin1', 257, 265);
  const posix = magic.startsWith('ustar\0');
  const known = posix || magic === 'ustar  \0';
  const prefix = posix ? text(block, 345, 155) : '';
  const name = text(block, 0, 100);
  return {
    name: prefix === '' ? name : `${prefix}/${name}`,
    mode: parseNumber(block, 100, 8),
    uid: parseNumber(block, 108, 8),
    gid: parseNumber(block, 116, 8),
    size: parseNumber(block, 124, 12),
    mtime: parseNumber(block, 136, 12),
    typeFlag: String.fromCharCode(block[156] ?? 0),
    linkName: text(block, 157, 100),
    devMajor: known ? parseNumber(block, 329, 8) : 0,
    devMinor: known ? parseNumber(block, 337, 8) : 0,
  };
}
