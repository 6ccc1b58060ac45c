import { setTimeout as sleep } from 'node:timers/promises';

/** Clock and pause of a {@link RateLimit}; tests replace them. Milliseconds. */
export type LimitClock = {
  readonly now: () => number;
  readonly pause: (milliseconds: number, signal?: AbortSignal) => Promise<void>;
};

const CLOCK: LimitClock = {
  now: () => performance.now(),
  pause: (ms, signal) => sleep(ms, undefined, signal === undefined ? {} : { signal }),
};

/**
 * A token bucket: passes on at most `bytesPerSecond` on average, and a quarter of a second's bytes (at
 * least 16 KiB, so that chunks pass) at once. Because reading stops meanwhile, TCP slows the sender.
 */
export class RateLimit {
  readonly #rate: number;
  readonly #burst: number;
  readonly #clock: LimitClock;
  #tokens: number;
  #filledAt: number;

  constructor(bytesPerSecond: number, clock: LimitClock = CLOCK) {
    this.#rate = bytesPerSecond;
    this.#burst = Math.max(16 * 1024, bytesPerSecond / 4);
    this.#clock = clock;
    this.#tokens = this.#burst;
    this.#filledAt = clock.now();
  }

  /** Waits until `bytes` may pass. A chunk larger than the bucket is waited for as a debt. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const now = this.#clock.now();
    const earned = ((now - this.#filledAt) / 1000) * this.#rate;
    this.#tokens = Math.min(this.#burst, this.#tokens + earned) - bytes;
    this.#filledAt = now;
    if (this.#tokens < 0) await this.#clock.pause((-this.#tokens / this.#rate) * 1000, signal);
  }

  /** Passes a body on at the limited rate. */
  async *limit(body: AsyncIterable<Uint8Array>, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
    for await (const chunk of body) {
      await this.take(chunk.byteLength, signal);
      yield chunk;
    }
  }
}
