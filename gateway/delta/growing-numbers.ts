type Numbers = Float64Array<ArrayBuffer> | Uint32Array<ArrayBuffer> | Uint16Array<ArrayBuffer>;
type NumbersClass = {
  new (from: number | ArrayBuffer): Numbers;
  readonly BYTES_PER_ELEMENT: number;
};

/** A list of numbers of one kind. */
export class GrowingNumbers {
  readonly #kind: NumbersClass;
  #numbers: Numbers;
  length = 0;

  constructor(kind: NumbersClass) {
    this.#kind = kind;
    this.#numbers = new kind(256);
  }

  push(value: number): void {
    if (this.length === this.#numbers.length) {
      // The old room goes back at once.
      this.#numbers = new this.#kind(this.#numbers.buffer.transfer(2 * this.#numbers.byteLength));
    }
    this.#numbers[this.length] = value;
    this.length += 1;
  }

  /** 0 beyond the end. */
  at(index: number): number {
    return this.#numbers[index] ?? 0;
  }
}
