import { type ByteSource, readBytes } from './part.ts';

/**
 * Archives of the `newc` cpio format, as initrds have them (cpio(5); Linux's
 * Documentation/driver-api/early-userspace/buffer-format.rst).
 */

const HEADER_SIZE = 110;
const MAGIC = Buffer.from('07070');
const MAX_NAME = 4096;
const TRAILER = 'TRAILER!!!';

/** One entry: its header and name stand before `content`. */
export type CpioEntry = {
  readonly content: number;
  readonly size: number;
  /** Where the next entry begins: contents are filled up to four bytes. */
  readonly end: number;
  /** Relative, without `.` and `..`; undefined where the name is no such path. */
  readonly path: string | undefined;
  readonly trailer: boolean;
};

function upTo4(offset: number): number {
  return Math.ceil(offset / 4) * 4;
}

/** The entry at `offset`, or undefined where there is none. Offsets count from `start`. */
export function readCpioEntry(
  source: ByteSource,
  start: number,
  offset: number,
): CpioEntry | undefined {
  const header = Buffer.from(readBytes(source, offset, HEADER_SIZE + 256));
  const kind = header[5];
  if (header.length < HEADER_SIZE || !header.subarray(0, 5).equals(MAGIC)) return undefined;
  if (kind !== 0x31 && kind !== 0x32) return undefined;
  const fields = header.toString('latin1', 6, HEADER_SIZE);
  if (!/^[0-9a-fA-F]{104}$/.test(fields)) return undefined;
  const field = (index: number) => Number.parseInt(fields.slice(8 * index, 8 * index + 8), 16);
  const size = field(6);
  const nameSize = field(11);
  if (nameSize === 0 || nameSize > MAX_NAME) return undefined;
  const name = Buffer.from(readBytes(source, offset + HEADER_SIZE, nameSize - 1)).toString();
  const content = start + upTo4(offset - start + HEADER_SIZE + nameSize);
  const end = start + upTo4(content - start + size);
  if (content + size > source.size) return undefined;
  return { content, size, end, path: archivePath(name), trailer: name === TRAILER };
}

function archivePath(name: string): string | undefined {
  const names = name.split('/').filter((part) => part !== '' && part !== '.');
  const odd = names.length === 0 || names.includes('..') || name.includes('\0');
  return odd ? undefined : names.join('/');
}
