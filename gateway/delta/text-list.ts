import { GrowingNumbers } from './growing-numbers.ts';

const CHUNK = 1024 * 1024;

/** Texts of one byte a character (latin1) by their number; six bytes for each beside its own. */
export class TextList {
  readonly #chunks: Buffer[] = [];
  /** Where the next text goes in the last chunk. */
  #used = CHUNK;
  readonly #starts = new GrowingNumbers(Uint32Array);
  readonly #lengths = new GrowingNumbers(Uint16Array);

  get length(): number {
    return this.#starts.length;
  }

  /** Throws RangeError for one of more than 65,535 characters. */
  push(text: string): void {
    if (text.length > 0xffff) throw new RangeError('a path is too long');
    if (this.#used + text.length > CHUNK) {
      this.#chunks.push(Buffer.allocUnsafe(CHUNK));
      this.#used = 0;
    }
    this.#chunks.at(-1)?.write(text, this.#used, 'latin1');
    this.#starts.push((this.#chunks.length - 1) * CHUNK + this.#used);
    this.#lengths.push(text.length);
    this.#used += text.length;
  }

  at(index: number): string {
    const start = this.#starts.at(index);
    const offset = start % CHUNK;
    const chunk = this.#chunks[(start - offset) / CHUNK];
    return chunk?.toString('latin1', offset, offset + this.#lengths.at(index)) ?? '';
  }

  *[Symbol.iterator](): Generator<string, void, void> {
    for (let i = 0; i < this.length; i += 1) yield this.at(i);
  }
}
