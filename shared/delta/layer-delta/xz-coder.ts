import { SnapgateError } from '../../errors.ts';
import { loadLiblzma, XzPacker, XzUnpacker } from '../../recompress/xz/liblzma.ts';
import { invalidDelta } from './bytes.ts';
import type { StreamPacker, StreamUnpacker } from './coder.ts';
import { UnpackedBytes } from './unpacked-bytes.ts';

/** The magic bytes of xz and the flags of a stream without a check. */
const PLAIN_START = Buffer.from('fd377a585a000000', 'hex');
/** What liblzma takes besides the dictionary, in bytes. */
const OVERHEAD = 1024 * 1024;
/** What `xz` has for a dictionary, by its base-2 logarithm; preset 1 by itself would be a quick one. */
const PRESETS: ReadonlyMap<number, { readonly preset: number; readonly isExtreme: boolean }> =
  new Map([
    [20, { preset: 1, isExtreme: true }],
    [22, { preset: 4, isExtreme: false }],
    [23, { preset: 6, isExtreme: false }],
  ]);

/** Unpacks a stream with a dictionary of up to 2 to the `dictionaryLog` bytes. */
export function openXzUnpacker(dictionaryLog: number): StreamUnpacker {
  const unpacker = opened((lzma) => new XzUnpacker(lzma, 2 ** dictionaryLog + OVERHEAD));
  const unpacked = new UnpackedBytes();
  let isOpen = false;
  const unpackAll = async (packed: Uint8Array, length: number) => {
    const xz = await unpacker.coder;
    if (!isOpen && !isPlain(packed)) {
      throw invalidDelta('a stream of the delta is xz of another kind');
    }
    isOpen = true;
    unpacked.start(length);
    for (const bytes of xz.feed(packed)) unpacked.add(bytes);
    const whole = unpacked.whole(true);
    if (xz.ended) throw invalidDelta('a stream of the delta ends, and must not');
    return whole;
  };
  return {
    unpack: (packed, length) =>
      unpackAll(packed, length).catch((thrown) => Promise.reject(unpackError(thrown))),
    close: unpacker.close,
  };
}

/** Packs a stream with a dictionary of 2 to the `dictionaryLog` bytes: 20, 22 or 23. */
export function openXzPacker(dictionaryLog: number): StreamPacker {
  const found = PRESETS.get(dictionaryLog);
  if (found === undefined) throw new RangeError(`no preset has a dictionary of ${dictionaryLog}`);
  const packer = opened((lzma) => new XzPacker(lzma, found.preset, found.isExtreme));
  return {
    pack: async (bytes) => (await packer.coder).pack(bytes),
    close: packer.close,
  };
}

/** Whether an xz stream has no check, and its first block no sizes and LZMA2 alone. */
function isPlain(packed: Uint8Array): boolean {
  return PLAIN_START.equals(packed.subarray(0, 8)) && packed[13] === 0 && packed[14] === 0x21;
}

type Closable = { close(): void };

/** One that is there once liblzma is loaded. */
function opened<T extends Closable>(open: (lzma: Awaited<ReturnType<typeof loadLiblzma>>) => T) {
  const coder = loadLiblzma().then(open);
  // Whoever uses it is told; it may be closed without that.
  coder.catch(() => {});
  return { coder, close: () => void coder.then((one) => one.close()).catch(() => {}) };
}

/** What liblzma says of the bytes is said of the delta; what it is not there for is another matter. */
function unpackError(thrown: unknown): unknown {
  const isDamaged = thrown instanceof SnapgateError && thrown.code === 'INTERNAL';
  return isDamaged ? invalidDelta('a stream of the delta is not valid xz', thrown) : thrown;
}
