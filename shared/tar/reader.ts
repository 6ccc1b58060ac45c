import type { Piece } from '../delta/piece.ts';
import { SnapgateError } from '../errors.ts';
import { PieceCursor } from './cursor.ts';
import type { SparseRun, TarEntry, TarEntryType } from './entry.ts';
import { BLOCK, isZeroBlock, parseHeader, type RawHeader } from './header.ts';
import { type PaxRecords, parsePax, paxInteger, paxTime } from './pax.ts';
import {
  checkSparseRuns,
  gnuSparseRuns,
  MAX_SPARSE_RUNS,
  type PaxSparse,
  parseSparseMap,
  paxSparse,
} from './sparse.ts';

/**
 * What a tar stream consists of, in order. All bytes of the stream come out exactly once: `raw` of
 * entries (headers with all their extension blocks), content, padding, and the end. Buffers of
 * `content` may be reused by the producer; the others are the receiver's.
 */
export type TarEvent =
  | { readonly kind: 'entry'; readonly entry: TarEntry; readonly raw: Buffer }
  | { readonly kind: 'content'; readonly piece: Piece; readonly offset: number }
  | { readonly kind: 'padding'; readonly bytes: Buffer }
  | { readonly kind: 'end'; readonly bytes: Uint8Array };

/** What is accepted from a layer. */
export type TarLimits = {
  /** Longest path and link target in bytes: Linux's PATH_MAX. */
  readonly maxPathBytes: number;
  /** Largest pax header and largest long-name block in bytes; Go's limit. */
  readonly maxExtensionBytes: number;
  readonly maxEntries: number;
};

export const DEFAULT_TAR_LIMITS: TarLimits = {
  maxPathBytes: 4096,
  maxExtensionBytes: 1024 * 1024,
  maxEntries: 10_000_000,
};

const TYPES: Readonly<Record<string, TarEntryType>> = {
  '\0': 'file',
  '0': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
  '7': 'file',
  S: 'file',
};

/** What stands before an entry's own header. */
type Extensions = { pax: PaxRecords; longName?: string; longLink?: string; raw: Buffer[] };

/**
 * Reads a tar stream: ustar, GNU (long names, sparse, base-256) and pax (names, sizes, times,
 * xattrs, sparse 0.0 to 1.0), as Go's archive/tar reads it. Global pax headers are passed over, as
 * Podman does. Throws TAR_INVALID and LIMIT_EXCEEDED.
 */
export async function* readTar(
  pieces: AsyncIterable<Piece>,
  limits: TarLimits = DEFAULT_TAR_LIMITS,
): AsyncGenerator<TarEvent, void, void> {
  const cursor = new PieceCursor(pieces);
  try {
    for (let entries = 0; ; entries += 1) {
      if (entries >= limits.maxEntries) {
        throw new SnapgateError(
          'LIMIT_EXCEEDED',
          `a layer has more than ${limits.maxEntries} entries`,
        );
      }
      const head = await readHead(cursor, limits);
      if (head.end !== undefined) {
        if (head.end.length > 0) yield { kind: 'end', bytes: head.end };
        break;
      }
      yield { kind: 'entry', entry: head.entry, raw: head.raw };
      yield* readContent(cursor, head.entry.size);
    }
    for (let rest = await cursor.take(BLOCK * 128); rest; rest = await cursor.take(BLOCK * 128)) {
      yield { kind: 'end', bytes: rest.bytes };
    }
  } finally {
    await cursor.close();
  }
}

async function* readContent(
  cursor: PieceCursor,
  size: number,
): AsyncGenerator<TarEvent, void, void> {
  for (let offset = 0; offset < size; ) {
    const piece = await cursor.take(size - offset);
    if (piece === undefined) throw truncated(cursor);
    yield { kind: 'content', piece, offset };
    offset += piece.bytes.length;
  }
  const padding = (BLOCK - (size % BLOCK)) % BLOCK;
  if (padding === 0) return;
  const bytes = await cursor.read(padding);
  // umoci ends a layer with the content of its last file; Go's reader and so Podman accept that.
  if (bytes.length > 0) yield { kind: 'padding', bytes };
}

function truncated(cursor: PieceCursor): SnapgateError {
  return new SnapgateError(
    'TAR_INVALID',
    `the tar stream ends early, after ${cursor.position} bytes`,
  );
}

type Head = { end: Buffer; entry?: undefined } | { end?: undefined; entry: TarEntry; raw: Buffer };

async function readHead(cursor: PieceCursor, limits: TarLimits): Promise<Head> {
  const extensions: Extensions = { pax: [], raw: [] };
  for (;;) {
    const block = await cursor.read(BLOCK);
    const first = extensions.raw.length === 0;
    if (block.length === 0 && first) return { end: block };
    if (block.length < BLOCK) throw truncated(cursor);
    if (isZeroBlock(block)) {
      if (!first) throw new SnapgateError('TAR_INVALID', 'the tar stream ends inside a header');
      return { end: block };
    }
    const header = parseHeader(block);
    extensions.raw.push(block);
    if (!'xgLK'.includes(header.typeFlag)) {
      return readEntry(cursor, header, block, extensions, limits);
    }
    await readExtension(cursor, header, extensions, limits);
  }
}

async function readExtension(
  cursor: PieceCursor,
  header: RawHeader,
  extensions: Extensions,
  limits: TarLimits,
): Promise<void> {
  const total = extensions.raw.reduce((sum, block) => sum + block.length, 0);
  if (header.size < 0 || total + header.size > limits.maxExtensionBytes) {
    throw new SnapgateError('LIMIT_EXCEEDED', 'the extended header of a tar entry is too large');
  }
  const padded = Math.ceil(header.size / BLOCK) * BLOCK;
  const bytes = await cursor.read(padded);
  if (bytes.length < padded) throw truncated(cursor);
  extensions.raw.push(bytes);
  const data = bytes.subarray(0, header.size);
  if (header.typeFlag === 'x') extensions.pax = parsePax(data);
  if (header.typeFlag === 'L') extensions.longName = untilNul(data);
  if (header.typeFlag === 'K') extensions.longLink = untilNul(data);
}

function untilNul(data: Buffer): string {
  const end = data.indexOf(0);
  return data.toString('latin1', 0, end < 0 ? data.length : end);
}

async function readEntry(
  cursor: PieceCursor,
  header: RawHeader,
  block: Buffer,
  extensions: Extensions,
  limits: TarLimits,
): Promise<Head> {
  // An empty value means: as if the record were not there.
  const pax = extensions.pax.filter(([, value]) => value !== '');
  const records = new Map(pax);
  const sparse = paxSparse(extensions.pax);
  const path = records.get('path') ?? extensions.longName ?? header.name;
  const name = sparse?.name ?? path;
  const type = entryType(header, name);
  const integer = (key: string, otherwise: number) => {
    const value = records.get(key);
    return value === undefined ? otherwise : paxInteger(key, value);
  };
  const stored = type === 'file' ? integer('size', header.size) : 0;
  if (stored < 0) throw new SnapgateError('TAR_INVALID', 'a tar entry has a negative size');
  const content = await readSparse(cursor, header, block, sparse, stored, extensions.raw);
  const mtime = records.get('mtime');
  const linkPath = records.get('linkpath') ?? extensions.longLink ?? header.linkName;
  const entry: TarEntry = {
    path: checkedPath(name, limits),
    linkPath: type === 'symlink' || type === 'hardlink' ? checkedPath(linkPath, limits) : '',
    type,
    mode: header.mode & 0o7777,
    uid: integer('uid', header.uid),
    gid: integer('gid', header.gid),
    mtime:
      mtime === undefined ? { seconds: header.mtime, nanoseconds: 0 } : paxTime('mtime', mtime),
    ...content,
    devMajor: header.devMajor,
    devMinor: header.devMinor,
    xattrs: xattrsOf(pax),
  };
  return { entry, raw: Buffer.concat(extensions.raw) };
}

function entryType(header: RawHeader, name: string): TarEntryType {
  const type = TYPES[header.typeFlag];
  if (type === undefined) {
    const flag = JSON.stringify(header.typeFlag);
    throw new SnapgateError('TAR_INVALID', `a tar entry is of the unknown type ${flag}`, {
      where: name,
    });
  }
  // Before ustar, a directory was a file whose name ends in a slash.
  return header.typeFlag === '\0' && name.endsWith('/') ? 'directory' : type;
}

function checkedPath(path: string, limits: TarLimits): string {
  if (path.length > limits.maxPathBytes) {
    throw new SnapgateError('LIMIT_EXCEEDED', `a path of ${path.length} bytes is too long`);
  }
  if (path.includes('\0')) throw new SnapgateError('TAR_INVALID', 'a path holds a NUL byte');
  return path;
}

function xattrsOf(pax: PaxRecords): [string, Uint8Array][] {
  const prefix = 'SCHILY.xattr.';
  const found = new Map<string, Uint8Array>();
  for (const [key, value] of pax) {
    if (key.startsWith(prefix)) found.set(key.slice(prefix.length), Buffer.from(value, 'latin1'));
  }
  return [...found];
}

type Content = { size: number; realSize: number; sparse: readonly SparseRun[] | undefined };

/** The sizes of an entry; reads what maps of sparse files stand between header and content. */
async function readSparse(
  cursor: PieceCursor,
  header: RawHeader,
  block: Buffer,
  pax: PaxSparse | undefined,
  stored: number,
  raw: Buffer[],
): Promise<Content> {
  if (header.typeFlag === 'S') {
    const runs = await readGnuSparse(cursor, block, raw);
    const realSize = parseRealSize(block);
    checkSparseRuns(runs, stored, realSize);
    return { size: stored, realSize, sparse: runs };
  }
  if (pax === undefined) return { size: stored, realSize: stored, sparse: undefined };
  let size = stored;
  let { runs } = pax;
  if (runs === undefined) {
    const map: Buffer[] = [];
    while (runs === undefined) {
      const more = size >= BLOCK ? await cursor.read(BLOCK) : Buffer.alloc(0);
      if (more.length < BLOCK) throw truncated(cursor);
      if (map.length * BLOCK > MAX_SPARSE_RUNS) {
        throw new SnapgateError('LIMIT_EXCEEDED', 'the map of a sparse file is too large');
      }
      map.push(more);
      size -= BLOCK;
      runs = parseSparseMap(Buffer.concat(map));
    }
    raw.push(...map);
  }
  checkSparseRuns(runs, size, pax.realSize);
  return { size, realSize: pax.realSize, sparse: runs };
}

function parseRealSize(block: Buffer): number {
  const size = gnuSparseRuns(Buffer.concat([block.subarray(483, 495), Buffer.alloc(12)]), 0, 1)[0];
  return size?.offset ?? 0;
}

async function readGnuSparse(
  cursor: PieceCursor,
  block: Buffer,
  raw: Buffer[],
): Promise<SparseRun[]> {
  const runs = gnuSparseRuns(block, 386, 4);
  let extended = block[482] !== 0;
  while (extended) {
    const more = await cursor.read(BLOCK);
    if (more.length < BLOCK) throw truncated(cursor);
    raw.push(more);
    runs.push(...gnuSparseRuns(more, 0, 21));
    if (runs.length > MAX_SPARSE_RUNS) {
      throw new SnapgateError('LIMIT_EXCEEDED', 'a sparse file has too many runs');
    }
    extended = more[504] !== 0;
  }
  return runs;
}
