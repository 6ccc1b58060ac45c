import type { Piece } from '../delta/piece.ts';

/**
 * Reads a sequence of pieces by number of bytes: whole blocks as buffers, content as pieces that
 * keep where they came from.
 */
export class PieceCursor {
  readonly #pieces: AsyncIterator<Piece>;
  #piece: Piece | undefined;
  #at = 0;
  /** Bytes taken so far. */
  position = 0;

  constructor(pieces: AsyncIterable<Piece>) {
    this.#pieces = pieces[Symbol.asyncIterator]();
  }

  /** Up to `limit` bytes as one piece, or undefined at the end. Never empty. */
  async take(limit: number): Promise<Piece | undefined> {
    while (this.#piece === undefined || this.#at >= this.#piece.bytes.length) {
      const next = await this.#pieces.next();
      if (next.done) return undefined;
      this.#piece = next.value;
      this.#at = 0;
    }
    const { bytes, source } = this.#piece;
    const start = this.#at;
    const end = Math.min(bytes.length, start + limit);
    this.#at = end;
    this.position += end - start;
    if (start === 0 && end === bytes.length) return this.#piece;
    const part = bytes.subarray(start, end);
    if (source === undefined) return { bytes: part };
    return { bytes: part, source: { file: source.file, offset: source.offset + start } };
  }

  /** A copy of the next `size` bytes; shorter only when the stream ends. */
  async read(size: number): Promise<Buffer> {
    const target = Buffer.allocUnsafe(size);
    let filled = 0;
    while (filled < size) {
      const piece = await this.take(size - filled);
      if (piece === undefined) break;
      target.set(piece.bytes, filled);
      filled += piece.bytes.length;
    }
    return target.subarray(0, filled);
  }

  /** Tells the producer that no more is wanted. */
  async close(): Promise<void> {
    await this.#pieces.return?.();
  }
}
