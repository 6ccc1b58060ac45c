import { SnapgateError } from '../../shared/errors.ts';

/** Most clients that are kept apart; beyond, the one that was quiet longest is forgotten. */
const MAX_CLIENTS = 10_000;

/** How many requests one client may make. */
export type ClientLimit = {
  readonly requestsPerSecond: number;
  /** How many it may make at once after a pause. */
  readonly burst: number;
};

/** Counts the requests of each client address. */
export class ClientLimits {
  readonly #limit: ClientLimit;
  readonly #now: () => number;
  readonly #left = new Map<string, { readonly tokens: number; readonly at: number }>();

  /** `now` gives milliseconds. */
  constructor(limit: ClientLimit, now: () => number = () => performance.now()) {
    this.#limit = limit;
    this.#now = now;
  }

  /** Counts a request. Throws TOOMANYREQUESTS for one too many; it does not count then. */
  take(address: string): void {
    const { requestsPerSecond, burst } = this.#limit;
    const client = clientOf(address);
    const now = this.#now();
    const known = this.#left.get(client);
    const earned = known === undefined ? burst : ((now - known.at) / 1000) * requestsPerSecond;
    const tokens = Math.min(burst, (known?.tokens ?? 0) + earned);
    this.#left.delete(client);
    if (tokens < 1) {
      this.#left.set(client, { tokens, at: now });
      throw new SnapgateError('TOOMANYREQUESTS', 'too many requests from this address', {
        hint: 'Wait a moment and go on more slowly.',
      });
    }
    const [oldest] = this.#left.keys();
    if (this.#left.size >= MAX_CLIENTS && oldest !== undefined) this.#left.delete(oldest);
    this.#left.set(client, { tokens: tokens - 1, at: now });
  }
}

/** An IPv6 client has a whole /64 of addresses; an IPv4 one may come written as IPv6. */
export function clientOf(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.)/, '');
  if (!plain.includes(':')) return plain;
  const [head = '', tail] = plain.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros =
    tail === undefined ? [] : Array(Math.max(0, 8 - before.length - after.length)).fill('0');
  return [...before, ...zeros, ...after].slice(0, 4).join(':');
}
