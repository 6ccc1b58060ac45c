import { constants, createZstdDecompress, type ZstdDecompress } from 'node:zlib';

/**
 * Unpacks a sequence of zstd frames, skippable ones included (RFC 8878, section 3.1). Node's own
 * decoder stops at the end of a frame without an error and drops what follows, so each frame that
 * ends inside a chunk is followed by a decoder of its own. Throws what the decoder throws, also for
 * a frame that is cut off.
 */
export async function* unpackZstdFrames(
  body: AsyncIterable<Uint8Array>,
  maxWindowLog: number,
): AsyncGenerator<Buffer, void, void> {
  const feed = new Feed(body);
  try {
    while (await feed.hasMore()) {
      const decoder = createZstdDecompress({
        chunkSize: 256 * 1024,
        params: { [constants.ZSTD_d_windowLogMax]: maxWindowLog },
      });
      const fed = feed.run(decoder);
      try {
        for await (const chunk of decoder) yield chunk as Buffer;
        await fed;
      } finally {
        decoder.destroy();
        await fed;
      }
    }
  } finally {
    await feed.close();
  }
}

/** Hands a stream of bytes to one decoder after the other. */
class Feed {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = Buffer.alloc(0);

  constructor(body: AsyncIterable<Uint8Array>) {
    this.#chunks = body[Symbol.asyncIterator]();
  }

  async hasMore(): Promise<boolean> {
    while (this.#chunk.length === 0) {
      const next = await this.#chunks.next();
      if (next.done) return false;
      this.#chunk = next.value;
    }
    return true;
  }

  /** Writes until the decoder has ended or there is no more. Never rejects: the decoder tells. */
  async run(decoder: ZstdDecompress): Promise<void> {
    let isOver = false;
    const over = new Promise<void>((resolve) => {
      decoder.once('close', () => {
        isOver = true;
        resolve();
      });
    });
    try {
      while (!isOver && (await this.hasMore())) {
        const chunk = this.#chunk;
        const before = decoder.bytesWritten;
        const written = new Promise<void>((resolve) => decoder.write(chunk, () => resolve()));
        await Promise.race([written, over]);
        this.#chunk = chunk.subarray(decoder.bytesWritten - before);
        if (this.#chunk.length > 0) return;
      }
      if (!isOver) decoder.end();
    } catch (thrown) {
      decoder.destroy(thrown as Error);
    }
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
