import {
  constants,
  createZstdCompress,
  createZstdDecompress,
  type ZstdDecompress,
} from 'node:zlib';
import { SnapgateError } from '../../errors.ts';
import { invalidDelta } from './bytes.ts';
import { CODER, type StreamCoder } from './header.ts';
import { UnpackedBytes } from './unpacked-bytes.ts';
import { openXzPacker, openXzUnpacker } from './xz-coder.ts';

/** Unpacks one stream, segment after segment, from one checkpoint to the next. */
export type StreamUnpacker = {
  /**
   * The `length` bytes that `packed` holds, in a buffer that the next call overwrites. Throws
   * DELTA_INVALID when it is not just as many.
   */
  unpack(packed: Uint8Array, length: number): Promise<Uint8Array>;
  close(): void;
};

/** Packs one stream, segment after segment, from one checkpoint to the next. */
export type StreamPacker = {
  pack(bytes: Uint8Array): Promise<Uint8Array>;
  close(): void;
};

export function openUnpacker({ coder, parameter }: StreamCoder): StreamUnpacker {
  if (coder === CODER.ZSTD) return new ZstdUnpacker(parameter);
  if (coder === CODER.XZ) return openXzUnpacker(parameter);
  return {
    unpack: () => Promise.reject(invalidDelta('a stream without a coder is packed')),
    close() {},
  };
}

class ZstdUnpacker implements StreamUnpacker {
  readonly #zstd: ZstdDecompress;
  readonly #unpacked = new UnpackedBytes();
  #error: unknown;
  #fail: ((error: unknown) => void) | undefined;

  constructor(windowLog: number) {
    this.#zstd = createZstdDecompress({
      chunkSize: 64 * 1024,
      params: { [constants.ZSTD_d_windowLogMax]: windowLog },
    });
    this.#zstd.on('data', (chunk: Buffer) => this.#take(chunk));
    this.#zstd.on('error', (error) => this.#stop(unpackError(error)));
  }

  async unpack(packed: Uint8Array, length: number): Promise<Uint8Array> {
    this.#unpacked.start(length);
    const before = this.#zstd.bytesWritten;
    await new Promise<void>((resolve, reject) => {
      this.#fail = reject;
      if (this.#error !== undefined) reject(this.#error);
      else this.#zstd.write(packed, (error) => (error ? reject(unpackError(error)) : resolve()));
    });
    // The decoder passes over what follows the end of a frame.
    const used = this.#zstd.bytesWritten - before;
    return this.#unpacked.whole(used === packed.length);
  }

  close(): void {
    this.#zstd.destroy();
  }

  #take(chunk: Buffer): void {
    try {
      this.#unpacked.add(chunk);
    } catch (thrown) {
      this.#stop(thrown);
      this.#zstd.destroy();
    }
  }

  #stop(error: unknown): void {
    this.#error ??= error;
    this.#fail?.(this.#error);
  }
}

function unpackError(error: Error): SnapgateError {
  if (error instanceof SnapgateError) return error;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (/windowTooLarge|memory_allocation/i.test(code)) {
    return new SnapgateError('LIMIT_EXCEEDED', 'the delta needs a larger window than it declares', {
      cause: error,
    });
  }
  return invalidDelta('a stream of the delta is not valid zstd', error);
}

/** zstd's strategy "btopt": as the highest, "btultra2", with coarser prices. */
const QUICK = 7;

/** Up to this level large bulk is packed quickly. */
const MAX_QUICK_LEVEL = 18;

/**
 * What differs from zstd's own settings. Not knowing the size, it takes tables for the window that a
 * level goes with, a hundred MB, which the processor's caches do not hold. The levels that look for
 * the best way through all matches take half the time with tables that fit better, and with fewer
 * places looked at; in the large window, where this would lose 3 %, far matches are found otherwise.
 * Bulk has yet smaller tables, and fewer places that are looked at: the other streams are small, and
 * lose most by it. The highest levels are for those who want the last percent.
 */
function settingsFor(level: number, windowLog: number, isBulk: boolean): Record<number, number> {
  if (level < 10) return {};
  if (level < 16 || level > 19) return tables(22, 24, windowLog);
  const isLarge = windowLog > 22;
  if (!isBulk) {
    return isLarge
      ? { ...tables(19, 21, windowLog), ...farMatches(32, 4) }
      : tables(18, 20, windowLog);
  }
  const thorough = { ...tables(18, 20, windowLog), ...search(5, 32) };
  if (!isLarge) return thorough;
  // Ways reckoned less finely take two thirds of the time, and 0.8 % more bytes. Tables that the cache
  // of one processor holds, and less search, take half of that, and 3 % more.
  const size =
    level > MAX_QUICK_LEVEL ? thorough : { ...tables(17, 17, windowLog), ...search(3, 16) };
  return { ...size, ...farMatches(32, 5), [constants.ZSTD_c_strategy]: QUICK };
}

/** Base-2 logarithms of the numbers of entries, and that of the window. */
function tables(hashLog: number, chainLog: number, windowLog: number): Record<number, number> {
  return {
    [constants.ZSTD_c_hashLog]: Math.min(hashLog, windowLog),
    [constants.ZSTD_c_chainLog]: Math.min(chainLog, windowLog + 1),
  };
}

/** 2 to the `searchLog` places are looked at; a match of `enough` bytes is taken as it is. */
function search(searchLog: number, enough: number): Record<number, number> {
  return {
    [constants.ZSTD_c_searchLog]: searchLog,
    [constants.ZSTD_c_targetLength]: enough,
  };
}

/** Far matches of at least `length` bytes, looked up at every 2 to the `rateLog` places. */
function farMatches(length: number, rateLog: number): Record<number, number> {
  return {
    [constants.ZSTD_c_enableLongDistanceMatching]: 1,
    [constants.ZSTD_c_ldmMinMatch]: length,
    [constants.ZSTD_c_ldmHashLog]: 20,
    [constants.ZSTD_c_ldmHashRateLog]: rateLog,
  };
}

/**
 * `level` is that of zstd; `isBulk` is whether the stream is the bulk of a delta, as content that is new
 * is. One thread: several inside zstd lose data in Node.
 */
export function openPacker(
  { coder, parameter }: StreamCoder,
  level: number,
  isBulk: boolean,
): StreamPacker {
  if (coder === CODER.XZ) return openXzPacker(parameter);
  if (coder !== CODER.ZSTD) throw new RangeError('a stream without a coder cannot be packed');
  const zstd = createZstdCompress({
    chunkSize: 64 * 1024,
    params: {
      [constants.ZSTD_c_compressionLevel]: level,
      [constants.ZSTD_c_windowLog]: parameter,
      ...settingsFor(level, parameter, isBulk),
      [constants.ZSTD_c_contentSizeFlag]: 0,
      [constants.ZSTD_c_checksumFlag]: 0,
    },
  });
  let chunks: Buffer[] = [];
  zstd.on('data', (chunk: Buffer) => chunks.push(chunk));
  return {
    pack: (bytes) =>
      new Promise((resolve, reject) => {
        zstd.once('error', reject);
        zstd.write(bytes);
        zstd.flush(constants.ZSTD_e_flush, () => {
          zstd.off('error', reject);
          const packed = Buffer.concat(chunks);
          chunks = [];
          resolve(packed);
        });
      }),
    close: () => void zstd.destroy(),
  };
}
