import { SnapgateError } from '../../shared/errors.ts';
import { keepNewest } from '../../shared/keep-newest.ts';

/** Most clients that are kept apart; beyond, the one that was quiet longest is forgotten. */
const MAX_CLIENTS = 10_000;

/** How many requests one client may make. */
export type ClientLimit = {
  readonly requestsPerSecond: number;
  /** How many it may make at once after a pause. */
  readonly burst: number;
  /** Seconds that a client is asked to wait after one too many; 1 by default. */
  readonly retryAfter?: number;
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
    const { requestsPerSecond, burst, retryAfter = 1 } = this.#limit;
    const client = clientOf(address);
    const now = this.#now();
    const known = this.#left.get(client);
    const earned = known === undefined ? burst : ((now - known.at) / 1000) * requestsPerSecond;
    const tokens = Math.min(burst, (known?.tokens ?? 0) + earned);
    keepNewest(
      this.#left,
      client,
      { tokens: tokens < 1 ? tokens : tokens - 1, at: now },
      MAX_CLIENTS,
    );
    if (tokens < 1) {
      throw new SnapgateError('TOOMANYREQUESTS', 'too many requests from this address', {
        hint: 'Wait a moment and go on more slowly.',
        retryAfter,
      });
    }
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
