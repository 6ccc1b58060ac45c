import { constants, createZstdCompress } from 'node:zlib';

/** Magic number of tar-diff version 1. */
export const TAR_DIFF_MAGIC = Buffer.from('tardf1\n\0', 'latin1');

/** Operation codes of tar-diff version 1 (github.com/containers/tar-diff, file-format.md). */
export const OP = { DATA: 0, OPEN: 1, COPY: 2, ADD_DATA: 3, SEEK: 4 } as const;

/** How a tar-diff is packed. */
export type TarDiffPacking = {
  /** zstd level, 1 to 22. */
  readonly level: number;
  /** Base-2 logarithm of the window, which the reader must hold in memory. */
  readonly windowLog: number;
};

const CHUNK = 1024 * 1024;

/**
 * Collects operations as the bytes that are then packed. Runs of DATA are merged; OPEN and SEEK are
 * written only where they change something.
 */
export class TarDiffWriter {
  readonly #write: (bytes: Buffer) => Promise<void>;
  #out = Buffer.allocUnsafe(CHUNK + 64);
  #length = 0;
  #data: Buffer[] = [];
  #dataLength = 0;
  #path: string | undefined;
  #position = 0;

  /** `write` takes chunks of about a megabyte, each a buffer of its own. */
  constructor(write: (bytes: Buffer) => Promise<void>) {
    this.#write = write;
  }

  /** Emits bytes of the target. The buffer is copied. */
  async data(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      const part = bytes.subarray(at, at + CHUNK - this.#dataLength);
      this.#data.push(Buffer.from(part));
      this.#dataLength += part.length;
      at += part.length;
      if (this.#dataLength >= CHUNK) await this.#flushData();
    }
  }

  /** Makes a file of the source tree the current one, at position 0. */
  async open(path: string): Promise<void> {
    if (this.#path === path) return;
    await this.#flushData();
    const name = Buffer.from(path, 'latin1');
    await this.#op(OP.OPEN, name.length, name);
    this.#path = path;
    this.#position = 0;
  }

  /** Emits `size` bytes of the current file from `offset`. */
  async copy(offset: number, size: number): Promise<void> {
    if (size === 0) return;
    await this.#seek(offset);
    await this.#flushData();
    await this.#op(OP.COPY, size);
    this.#position += size;
  }

  /** Emits the sum, byte by byte modulo 256, of `difference` and the current file from `offset`. */
  async addData(offset: number, difference: Uint8Array): Promise<void> {
    if (difference.length === 0) return;
    await this.#seek(offset);
    await this.#flushData();
    await this.#op(OP.ADD_DATA, difference.length, difference);
    this.#position += difference.length;
  }

  /** Writes out what is still held. */
  async finish(): Promise<void> {
    await this.#flushData();
    await this.#flush();
  }

  async #seek(position: number): Promise<void> {
    if (this.#position === position) return;
    await this.#flushData();
    await this.#op(OP.SEEK, position);
    this.#position = position;
  }

  async #flushData(): Promise<void> {
    if (this.#dataLength === 0) return;
    const parts = this.#data;
    this.#head(OP.DATA, this.#dataLength);
    this.#data = [];
    this.#dataLength = 0;
    for (const part of parts) await this.#append(part);
    await this.#flushFull();
  }

  async #op(code: number, size: number, payload?: Uint8Array): Promise<void> {
    this.#head(code, size);
    if (payload !== undefined) await this.#append(payload);
    await this.#flushFull();
  }

  /** There is always room for a head: `#out` is longer than what `#flushFull` lets stand. */
  #head(code: number, size: number): void {
    this.#out[this.#length++] = code;
    let rest = size;
    while (rest >= 0x80) {
      this.#out[this.#length++] = (rest % 0x80) | 0x80;
      rest = Math.floor(rest / 0x80);
    }
    this.#out[this.#length++] = rest;
  }

  async #append(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      await this.#flushFull();
      const part = bytes.subarray(at, at + CHUNK - this.#length);
      this.#out.set(part, this.#length);
      this.#length += part.length;
      at += part.length;
    }
  }

  async #flushFull(): Promise<void> {
    if (this.#length >= CHUNK - 64) await this.#flush();
  }

  async #flush(): Promise<void> {
    if (this.#length === 0) return;
    const full = this.#out.subarray(0, this.#length);
    this.#out = Buffer.allocUnsafe(CHUNK + 64);
    this.#length = 0;
    await this.#write(full);
  }
}

/**
 * Packs a tar-diff: `fill` writes the operations, what comes out is the whole delta. One thread, one
 * zstd frame: several workers inside zstd lose data in Node.
 */
export async function* packTarDiff(
  fill: (writer: TarDiffWriter) => Promise<void>,
  packing: TarDiffPacking,
): AsyncGenerator<Buffer, void, void> {
  const zstd = createZstdCompress({
    chunkSize: 256 * 1024,
    params: {
      [constants.ZSTD_c_compressionLevel]: packing.level,
      [constants.ZSTD_c_windowLog]: packing.windowLog,
      [constants.ZSTD_c_checksumFlag]: 1,
    },
  });
  const write = (bytes: Buffer) =>
    new Promise<void>((resolve, reject) => {
      zstd.write(bytes, (error) => (error ? reject(error) : resolve()));
    });
  const writer = new TarDiffWriter(write);
  const filled = fill(writer)
    .then(() => writer.finish())
    .then(
      () => void zstd.end(),
      (thrown) => void zstd.destroy(thrown as Error),
    );
  yield Buffer.from(TAR_DIFF_MAGIC);
  try {
    for await (const chunk of zstd) yield chunk as Buffer;
  } finally {
    zstd.destroy();
  }
  await filled;
}
