/** Counts the parts of a delta that is written: which live, and what they take at most. Bytes. */
export class PartsLedger {
  readonly #sizes = new Map<number, number>();
  #next = 0;
  #bytes = 0;
  #mostBytes = 0;
  #mostParts = 0;

  /** How many live. */
  get count(): number {
    return this.#sizes.size;
  }

  /** Most bytes, and most parts, that lived at one time so far. */
  get mostBytes(): number {
    return this.#mostBytes;
  }

  get mostParts(): number {
    return this.#mostParts;
  }

  /** A new part; returns its number. */
  add(size: number): number {
    const part = this.#next++;
    this.#sizes.set(part, size);
    this.#bytes += size;
    this.#mostBytes = Math.max(this.#mostBytes, this.#bytes);
    this.#mostParts = Math.max(this.#mostParts, this.#sizes.size);
    return part;
  }

  remove(part: number): void {
    this.#bytes -= this.#sizes.get(part) ?? 0;
    this.#sizes.delete(part);
  }

  /** How far a living part is before the next new one, as the format names it. */
  age(part: number): number {
    if (!this.#sizes.has(part)) throw new RangeError(`part ${part} does not live`);
    return this.#next - part;
  }

  /** At a checkpoint, where none lives. */
  restart(): void {
    this.#next = 0;
  }
}
