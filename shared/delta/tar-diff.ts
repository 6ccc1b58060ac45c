import { Readable } from 'node:stream';
import { constants, createZstdDecompress } from 'node:zlib';
import { SnapgateError } from '../errors.ts';
import type { Piece, SourceFile, SourceTree } from './piece.ts';
import { OP, TAR_DIFF_MAGIC } from './tar-diff-writer.ts';

/** What is accepted from a tar-diff. */
export type TarDiffLimits = {
  /** Longest path in bytes; the reader of github.com/containers/tar-diff has the same limit. */
  readonly maxPathBytes: number;
  /** Largest ADDDATA in bytes, likewise. */
  readonly maxAddDataBytes: number;
  /** Most bytes of rebuilt tar stream. */
  readonly maxOutputBytes: number;
  /** Base-2 logarithm of the largest window that is unpacked. */
  readonly maxWindowLog: number;
};

export const DEFAULT_TAR_DIFF_LIMITS: TarDiffLimits = {
  maxPathBytes: 4096,
  maxAddDataBytes: 100 * 1024 * 1024,
  maxOutputBytes: 64 * 1024 ** 3,
  maxWindowLog: 25,
};

const CHUNK = 256 * 1024;

function invalid(message: string): SnapgateError {
  return new SnapgateError('DELTA_INVALID', message, {
    hint: 'The delta is damaged or hostile; the full image can still be fetched.',
  });
}

/**
 * Applies a tar-diff of version 1: yields the rebuilt tar stream, with the place of what was copied
 * unchanged. Pieces share one buffer, which the next piece overwrites. The source tree stays open.
 * Throws DELTA_INVALID, DELTA_SOURCE_MISMATCH, LIMIT_EXCEEDED, and what reading `delta` throws.
 */
export async function* applyTarDiff(
  delta: AsyncIterable<Uint8Array>,
  source: SourceTree,
  limits: TarDiffLimits = DEFAULT_TAR_DIFF_LIMITS,
): AsyncGenerator<Piece, void, void> {
  const reader = new OperationReader(unpack(delta, limits));
  const buffer = Buffer.allocUnsafe(CHUNK);
  let file: SourceFile | undefined;
  let position = 0;
  let output = 0;
  const count = (size: number) => {
    output += size;
    if (output > limits.maxOutputBytes) {
      throw new SnapgateError('LIMIT_EXCEEDED', 'the delta rebuilds more than it may', {
        hint: `The limit is ${limits.maxOutputBytes} bytes.`,
      });
    }
  };
  const opened = () => {
    if (file === undefined) throw invalid('the delta copies before it opens a file');
    return file;
  };
  try {
    for (let op = await reader.operation(); op !== undefined; op = await reader.operation()) {
      const { code, size } = op;
      switch (code) {
        case OP.DATA:
          count(size);
          for await (const bytes of reader.payload(size)) yield { bytes };
          break;
        case OP.OPEN:
          file = source.open(await readPath(reader, size, limits));
          position = 0;
          break;
        case OP.COPY:
          count(size);
          yield* copy(opened(), position, size, buffer);
          position += size;
          break;
        case OP.ADD_DATA:
          if (size > limits.maxAddDataBytes) {
            throw new SnapgateError('LIMIT_EXCEEDED', 'an ADDDATA operation is too large');
          }
          count(size);
          yield* addData(reader, opened(), position, size, buffer);
          position += size;
          break;
        case OP.SEEK:
          position = size;
          break;
        default:
          throw invalid(`the delta holds the unknown operation ${code}`);
      }
    }
  } finally {
    await reader.close();
  }
}

async function readPath(
  reader: OperationReader,
  size: number,
  limits: TarDiffLimits,
): Promise<string> {
  if (size > limits.maxPathBytes) throw new SnapgateError('LIMIT_EXCEEDED', 'a path is too long');
  const parts: Buffer[] = [];
  for await (const bytes of reader.payload(size)) parts.push(Buffer.from(bytes));
  const path = Buffer.concat(parts).toString('latin1');
  const names = path.split('/');
  if (path.includes('\0') || names.some((name) => name === '' || name === '.' || name === '..')) {
    throw invalid('the delta names a path that is not inside the source tree');
  }
  return path;
}

function shortSource(file: SourceFile): SnapgateError {
  return new SnapgateError(
    'DELTA_SOURCE_MISMATCH',
    'a source file is shorter than the delta needs',
    {
      where: file.path,
      hint: 'The local image differs from the one the delta is for; the full image can be fetched.',
    },
  );
}

function readFully(file: SourceFile, target: Uint8Array, offset: number): void {
  for (let filled = 0; filled < target.length; ) {
    const count = file.read(target.subarray(filled), offset + filled);
    if (count <= 0) throw shortSource(file);
    filled += count;
  }
}

function* copy(file: SourceFile, offset: number, size: number, buffer: Buffer): Generator<Piece> {
  if (offset + size > file.size) throw shortSource(file);
  for (let done = 0; done < size; ) {
    const bytes = buffer.subarray(0, Math.min(buffer.length, size - done));
    readFully(file, bytes, offset + done);
    yield { bytes, source: { file, offset: offset + done } };
    done += bytes.length;
  }
}

async function* addData(
  reader: OperationReader,
  file: SourceFile,
  offset: number,
  size: number,
  buffer: Buffer,
): AsyncGenerator<Piece, void, void> {
  if (offset + size > file.size) throw shortSource(file);
  let done = 0;
  for await (const difference of reader.payload(size)) {
    for (let at = 0; at < difference.length; at += buffer.length) {
      const part = difference.subarray(at, at + buffer.length);
      const bytes = buffer.subarray(0, part.length);
      readFully(file, bytes, offset + done);
      for (let i = 0; i < part.length; i += 1) bytes[i] = (bytes[i] ?? 0) + (part[i] ?? 0);
      yield { bytes };
      done += part.length;
    }
  }
}

/** Checks the magic number and unpacks the one zstd frame after it. */
async function* unpack(
  delta: AsyncIterable<Uint8Array>,
  limits: TarDiffLimits,
): AsyncGenerator<Buffer, void, void> {
  const zstd = createZstdDecompress({
    chunkSize: CHUNK,
    params: { [constants.ZSTD_d_windowLogMax]: limits.maxWindowLog },
  });
  const fed = { bytes: 0, all: false };
  const input = Readable.from(withoutMagic(delta, fed), { objectMode: false });
  input.on('error', (error) => zstd.destroy(error));
  try {
    for await (const chunk of input.pipe(zstd)) yield chunk as Buffer;
    // The decoder stops without a word at the end of the frame.
    if (!fed.all || zstd.bytesWritten !== fed.bytes)
      throw invalid('bytes follow the end of the delta');
  } catch (thrown) {
    if (thrown instanceof SnapgateError) throw thrown;
    const code = (thrown as NodeJS.ErrnoException).code ?? '';
    if (/windowTooLarge|memory_allocation/i.test(code)) {
      throw new SnapgateError('LIMIT_EXCEEDED', 'the delta needs too large a window', {
        cause: thrown,
      });
    }
    throw new SnapgateError('DELTA_INVALID', 'the delta is not a valid zstd stream', {
      cause: thrown,
    });
  } finally {
    input.destroy();
    zstd.destroy();
  }
}

async function* withoutMagic(
  delta: AsyncIterable<Uint8Array>,
  fed: { bytes: number; all: boolean },
): AsyncGenerator<Uint8Array, void, void> {
  let head: Buffer = Buffer.alloc(0);
  for await (const chunk of delta) {
    if (head.length >= TAR_DIFF_MAGIC.length) {
      fed.bytes += chunk.length;
      yield chunk;
      continue;
    }
    head = Buffer.concat([head, chunk]);
    if (head.length < TAR_DIFF_MAGIC.length) continue;
    if (!head.subarray(0, TAR_DIFF_MAGIC.length).equals(TAR_DIFF_MAGIC)) {
      throw invalid('the delta does not start as a tar-diff of version 1 does');
    }
    fed.bytes = head.length - TAR_DIFF_MAGIC.length;
    if (fed.bytes > 0) yield head.subarray(TAR_DIFF_MAGIC.length);
  }
  if (head.length < TAR_DIFF_MAGIC.length) throw invalid('the delta is cut off');
  fed.all = true;
}

/** Splits the unpacked stream into operations and their payloads. */
class OperationReader {
  readonly #chunks: AsyncGenerator<Buffer, void, void>;
  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;

  constructor(chunks: AsyncGenerator<Buffer, void, void>) {
    this.#chunks = chunks;
  }

  async operation(): Promise<{ code: number; size: number } | undefined> {
    if (!(await this.#fill())) return undefined;
    const code = this.#chunk[this.#at++] ?? 0;
    let size = 0;
    for (let scale = 1; ; scale *= 0x80) {
      if (!(await this.#fill())) throw invalid('the delta is cut off');
      const byte = this.#chunk[this.#at++] ?? 0;
      size += (byte & 0x7f) * scale;
      if (!Number.isSafeInteger(size) || scale > 2 ** 56)
        throw invalid('a number in the delta is too large');
      if (byte < 0x80) return { code, size };
    }
  }

  async *payload(size: number): AsyncGenerator<Buffer, void, void> {
    for (let rest = size; rest > 0; ) {
      if (!(await this.#fill())) throw invalid('the delta is cut off');
      const bytes = this.#chunk.subarray(this.#at, this.#at + rest);
      this.#at += bytes.length;
      rest -= bytes.length;
      yield bytes;
    }
  }

  async close(): Promise<void> {
    await this.#chunks.return();
  }

  async #fill(): Promise<boolean> {
    while (this.#at >= this.#chunk.length) {
      const next = await this.#chunks.next();
      if (next.done) return false;
      this.#chunk = next.value;
      this.#at = 0;
    }
    return true;
  }
}
