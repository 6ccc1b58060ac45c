import type { ContentFacts } from './describe.ts';
import { GrowingNumbers } from './growing-numbers.ts';

const DIGEST_BYTES = 32;

/** Contents in a spool file and what is known of them, by their number; 49 bytes each, and samples. */
export class ContentTable {
  readonly length: number;
  readonly maxSamples: number;
  readonly #offsets: Float64Array;
  readonly #sizes: Float64Array;
  readonly #digests: Buffer;
  readonly #arePacked: Uint8Array;
  readonly #samples = new GrowingNumbers(Uint32Array);
  readonly #firstSamples: Uint32Array;
  readonly #sampleCounts: Uint8Array;

  /** Of each content, at most `maxSamples` samples of its sketch are kept. */
  constructor(length: number, maxSamples: number) {
    this.length = length;
    this.maxSamples = maxSamples;
    this.#offsets = new Float64Array(length);
    this.#sizes = new Float64Array(length);
    this.#digests = Buffer.alloc(DIGEST_BYTES * length);
    this.#arePacked = new Uint8Array(length);
    this.#firstSamples = new Uint32Array(length);
    this.#sampleCounts = new Uint8Array(length);
  }

  /** Of all contents together. */
  get sampleCount(): number {
    return this.#samples.length;
  }

  place(index: number, offset: number, size: number): void {
    this.#offsets[index] = offset;
    this.#sizes[index] = size;
  }

  describe(index: number, { sha256, sketch, isPacked }: ContentFacts): void {
    this.#digests.write(sha256, DIGEST_BYTES * index, 'hex');
    this.#arePacked[index] = Number(isPacked);
    const count = Math.min(this.maxSamples, sketch.length);
    this.#firstSamples[index] = this.#samples.length;
    this.#sampleCounts[index] = count;
    // Of the smallest samples the smallest are a sketch, too.
    for (let i = 0; i < count; i += 1) this.#samples.push(sketch[i] ?? 0);
  }

  offset(index: number): number {
    return this.#offsets[index] ?? 0;
  }

  size(index: number): number {
    return this.#sizes[index] ?? 0;
  }

  /** The first 32 bits of the digest. */
  digestStart(index: number): number {
    return this.#digests.readInt32BE(DIGEST_BYTES * index);
  }

  /** In hex digits. */
  digest(index: number): string {
    return this.#digests.toString('hex', DIGEST_BYTES * index, DIGEST_BYTES * (index + 1));
  }

  firstSample(index: number): number {
    return this.#firstSamples[index] ?? 0;
  }

  sketch(index: number): Uint32Array {
    const sketch = new Uint32Array(this.#sampleCounts[index] ?? 0);
    const first = this.firstSample(index);
    for (let i = 0; i < sketch.length; i += 1) sketch[i] = this.#samples.at(first + i);
    return sketch;
  }

  facts(index: number): ContentFacts {
    return {
      sha256: this.digest(index),
      sketch: this.sketch(index),
      isPacked: this.#arePacked[index] === 1,
    };
  }
}
