import { type ByteSource, readBytes } from '../part.ts';

/** Longest header that is read: names and comments have no limit of their own. */
const MAX_HEADER = 4096;
/** CRC-32 and size of the content, after the compressed data (RFC 1952, section 2.3.1). */
export const GZIP_TRAILER_SIZE = 8;

const FLAG = { HEADER_CRC: 2, EXTRA: 4, NAME: 8, COMMENT: 16, RESERVED: 0xe0 } as const;

/** The header of a gzip member (RFC 1952, section 2.3), or undefined where there is none. */
export function readGzipHeader(source: ByteSource, offset: number): Uint8Array | undefined {
  const bytes = readBytes(source, offset, MAX_HEADER);
  const flags = bytes[3] ?? FLAG.RESERVED;
  const isGzip = bytes[0] === 0x1f && bytes[1] === 0x8b && bytes[2] === 8;
  if (!isGzip || (flags & FLAG.RESERVED) !== 0) return undefined;
  let at = 10;
  if ((flags & FLAG.EXTRA) !== 0) at += 2 + (bytes[at] ?? 0) + 256 * (bytes[at + 1] ?? 0);
  for (const flag of [FLAG.NAME, FLAG.COMMENT]) {
    if ((flags & flag) === 0) continue;
    const end = bytes.indexOf(0, at);
    if (end < 0) return undefined;
    at = end + 1;
  }
  if ((flags & FLAG.HEADER_CRC) !== 0) at += 2;
  return at > bytes.length ? undefined : bytes.slice(0, at);
}
