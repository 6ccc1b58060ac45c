import type { PlanLayer } from '../../shared/plan.ts';
import type { ImageSide } from './image-side.ts';

/** Making the delta of a layer takes about as long as reading this many times its packed bytes. */
const WEIGHT = 4;

/** Adds up how far the making of a delta is, from bytes read and layers done. */
export class Progress {
  readonly #onProgress: ((fraction: number) => void) | undefined;
  readonly #weights: readonly number[];
  readonly #done: number[];
  readonly #total: number;
  #read = 0;
  #reported = 0;

  constructor(
    source: ImageSide,
    layers: readonly PlanLayer[],
    onProgress: ((fraction: number) => void) | undefined,
  ) {
    this.#onProgress = onProgress;
    this.#weights = layers.map((layer) => (layer.kind === 'full' ? layer.bytes * WEIGHT : 0));
    this.#done = layers.map(() => 0);
    const size = (image: ImageSide) => image.facts.layers.reduce((sum, { size }) => sum + size, 0);
    const made = layers.reduce((sum, layer) => sum + layer.bytes, 0);
    this.#total = Math.max(1, size(source) + made * (1 + WEIGHT));
  }

  /** Packed bytes of either image were read. */
  onRead(bytes: number): void {
    this.#read += bytes;
    this.#report();
  }

  /** A share of a layer's delta is made. */
  onLayer(index: number, fraction: number): void {
    this.#done[index] = fraction;
    this.#report();
  }

  finish(): void {
    this.#onProgress?.(1);
  }

  #report(): void {
    const made = this.#done.reduce((sum, done, i) => sum + done * (this.#weights[i] ?? 0), 0);
    const fraction = Math.min(0.99, (this.#read + made) / this.#total);
    if (fraction < this.#reported + 0.001) return;
    this.#reported = fraction;
    this.#onProgress?.(fraction);
  }
}
