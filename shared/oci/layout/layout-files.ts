import { SnapgateError } from '../../errors.ts';

/** What can be read at any place, as an open file can. */
export type RandomAccess = {
  /** Reads up to `length` bytes at `position` into a buffer; none are read at the end. */
  read(
    buffer: Uint8Array,
    offset: number,
    length: number,
    position: number,
  ): Promise<{ readonly bytesRead: number }>;
};

/** A run of bytes inside an open file: a member of an archive, or the whole of a plain file. */
export type FileRange = {
  readonly handle: RandomAccess;
  readonly start: number;
  /** Bytes. */
  readonly size: number;
  close(): Promise<void>;
};

/**
 * The files of an OCI image layout, wherever they stand. Paths are relative and made by the caller
 * from fixed names and digests, never from content. `find` answers undefined when there is none.
 */
export type LayoutFiles = {
  readonly name: string;
  find(path: string): Promise<FileRange | undefined>;
};

/** Bytes read at a time. */
const CHUNK_BYTES = 256 * 1024;

/** Streams a range from `offset` (bytes into it) to its end, then closes it. */
export async function* readRange(
  range: FileRange,
  offset = 0,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  try {
    let position = offset;
    while (position < range.size) {
      signal?.throwIfAborted();
      const length = Math.min(CHUNK_BYTES, range.size - position);
      const buffer = Buffer.allocUnsafe(length);
      const { bytesRead } = await range.handle.read(buffer, 0, length, range.start + position);
      if (bytesRead === 0) return;
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  } finally {
    await range.close();
  }
}

/** Reads a whole small file; undefined when there is none. Throws LIMIT_EXCEEDED. */
export async function readSmallFile(
  files: LayoutFiles,
  path: string,
  limit: number,
): Promise<Uint8Array | undefined> {
  const range = await files.find(path);
  if (range === undefined) return undefined;
  if (range.size > limit) {
    await range.close();
    throw new SnapgateError('LIMIT_EXCEEDED', `${path} is larger than ${limit} bytes`, {
      where: files.name,
    });
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of readRange(range)) chunks.push(chunk);
  return Buffer.concat(chunks);
}
