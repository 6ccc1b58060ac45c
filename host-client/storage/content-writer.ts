import { constants, zstdCompressSync } from 'node:zlib';
import { MAX_WRITE_BYTES, type SendCommand } from '../../shared/send-stream/format.ts';

/** Extents are shared, and compressed content is kept, in whole blocks of this many bytes. */
export const BLOCK = 4096;
/** Most content in one compressed extent of btrfs. */
const MAX_PACKED_BYTES = 128 * 1024;
/** `BTRFS_ENCODED_IO_COMPRESSION_ZSTD`: one frame, its window at most 128 KiB. */
const ZSTD = 2;
const PARAMS = {
  [constants.ZSTD_c_compressionLevel]: 6,
  [constants.ZSTD_c_windowLog]: 17,
};
/** Most bytes of a file that btrfs keeps among its metadata, twice (mount option `max_inline`). */
const MAX_INLINE_BYTES = 2048;
/** Most pieces that are passed over after pieces that did not become smaller. */
const MAX_PASSED_OVER = 8;

/** A file that is written to, and its size when it is whole. */
export type WrittenFile = { readonly path: string; readonly size: number };

/** How the content of files is put into commands. */
export type ContentWriter = {
  /** Bytes of content as they go to the disk. */
  readonly bytesWritten: number;
  /** Least bytes of a whole file, and of a part of one, that are better shared than written. */
  readonly leastShared: { readonly whole: number; readonly part: number };
  /** Takes bytes that go to `offset` of a file; they may be used again at once. */
  write(file: WrittenFile, bytes: Uint8Array, offset: number): void;
  /** Emits what is held back: to be called when a file is whole. */
  flush(): void;
};

/** Writes content as it is. */
export class PlainWriter implements ContentWriter {
  readonly #add: (command: SendCommand) => void;
  readonly leastShared = { whole: 1, part: BLOCK };
  bytesWritten = 0;

  constructor(add: (command: SendCommand) => void) {
    this.#add = add;
  }

  write({ path }: WrittenFile, bytes: Uint8Array, offset: number): void {
    this.bytesWritten += bytes.length;
    for (let at = 0; at < bytes.length; at += MAX_WRITE_BYTES) {
      const data = bytes.subarray(at, at + MAX_WRITE_BYTES);
      this.#add({ op: 'write', path, offset: offset + at, data });
    }
  }

  flush(): void {}
}

/**
 * Writes content compressed by zstd, in pieces that each become one extent of btrfs, where that saves
 * a block. A piece begins at a block's start and ends at one or at the end of the file, as the kernel
 * demands; what stands around it is written as it is. Content that is compressed already is noticed
 * by the first pieces of it, and most of the others are not tried.
 *
 * Smallest files are not shared in any case: each copy has its content among the metadata, where
 * compressed it is less. A short run that is shared parts what is written around it, which then
 * takes more blocks than the run does.
 *
 * Source: `btrfs_do_encoded_write` of Linux.
 */
export class PackingWriter implements ContentWriter {
  readonly leastShared = { whole: MAX_INLINE_BYTES + 1, part: 4 * BLOCK };
  readonly #add: (command: SendCommand) => void;
  readonly #plain: PlainWriter;
  readonly #held = Buffer.allocUnsafeSlow(MAX_PACKED_BYTES);
  #file: WrittenFile | undefined;
  /** Where the bytes that are held go: their first one is at a block's start. */
  #start = 0;
  #size = 0;
  #packed = 0;
  /** Pieces in a row that did not become smaller, and how many more are not tried. */
  #failures = 0;
  #passOver = 0;

  constructor(add: (command: SendCommand) => void) {
    this.#add = add;
    this.#plain = new PlainWriter(add);
  }

  get bytesWritten(): number {
    return this.#plain.bytesWritten + this.#packed;
  }

  write(file: WrittenFile, bytes: Uint8Array, offset: number): void {
    if (file !== this.#file || offset !== this.#start + this.#size) this.flush();
    if (file !== this.#file) this.#passOver = this.#failures = 0;
    this.#file = file;
    const isHeld = this.#size > 0;
    // The rest of a block whose start is elsewhere.
    const head = isHeld ? 0 : Math.min(bytes.length, (BLOCK - (offset % BLOCK)) % BLOCK);
    if (head > 0) this.#plain.write(file, bytes.subarray(0, head), offset);
    if (!isHeld) this.#start = offset + head;
    for (let at = head; at < bytes.length; ) {
      const part = bytes.subarray(at, at + MAX_PACKED_BYTES - this.#size);
      this.#held.set(part, this.#size);
      this.#size += part.length;
      at += part.length;
      if (this.#size === MAX_PACKED_BYTES) this.flush();
    }
  }

  flush(): void {
    const file = this.#file;
    const size = this.#size;
    if (file === undefined || size === 0) return;
    const start = this.#start;
    const whole = start + size === file.size ? size : size - (size % BLOCK);
    const piece = this.#held.subarray(0, whole);
    if (!this.#pack(file, piece, start)) this.#plain.write(file, piece, start);
    if (whole < size) this.#plain.write(file, this.#held.subarray(whole, size), start + whole);
    this.#start += size;
    this.#size = 0;
  }

  #pack({ path, size }: WrittenFile, piece: Uint8Array, offset: number): boolean {
    const isInline = piece.length === size && size <= MAX_INLINE_BYTES;
    if (piece.length <= BLOCK && !isInline) return false;
    if (this.#passOver > 0) {
      this.#passOver -= 1;
      return false;
    }
    const data = zstdCompressSync(piece, { params: PARAMS });
    const isLess = isInline ? data.length < size : blocks(data.length) < blocks(piece.length);
    if (!isLess) {
      this.#failures += 1;
      this.#passOver = Math.min(MAX_PASSED_OVER, 2 ** this.#failures - 1);
      return false;
    }
    this.#failures = 0;
    this.#packed += data.length;
    this.#add({
      ...{ op: 'encodedWrite', path, offset, fileLength: piece.length },
      ...{ unencodedLength: piece.length, unencodedOffset: 0, compression: ZSTD, data },
    });
    return true;
  }
}

function blocks(bytes: number): number {
  return Math.ceil(bytes / BLOCK);
}
