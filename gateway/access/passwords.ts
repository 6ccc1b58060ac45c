import { createHmac, randomBytes } from 'node:crypto';
import { keepNewest } from '../../shared/keep-newest.ts';
import type { ComparePassword } from './bcrypt.ts';
import { type ClientLimit, ClientLimits } from './client-limits.ts';
import type { Users } from './htpasswd.ts';

/** How long a decision stands, in milliseconds, and how many are kept. */
const RIGHT_MS = 5 * 60 * 1000;
const WRONG_MS = 30 * 1000;
const MAX_KNOWN = 4096;
/** bcrypt looks at no more of a password, in bytes. */
const MAX_PASSWORD = 72;
/** Comparisons that one address may cause; what is remembered costs none. */
const TRIES: ClientLimit = { requestsPerSecond: 1, burst: 20, retryAfter: 5 };

type Known = { readonly isRight: boolean; readonly until: number };

export type PasswordsOptions = {
  readonly users: Users;
  readonly compare: ComparePassword;
  /** Milliseconds. */
  readonly now?: () => number;
};

/**
 * Judges names and passwords. A comparison is made once for several requests, by turns, and a
 * bounded number of times for each address; passwords are remembered by a keyed hash only.
 */
export class Passwords {
  readonly #compare: ComparePassword;
  readonly #now: () => number;
  readonly #key = randomBytes(32);
  readonly #known = new Map<string, Known>();
  readonly #running = new Map<string, Promise<boolean>>();
  readonly #tries: ClientLimits;
  #users: Users;

  constructor({ users, compare, now = () => performance.now() }: PasswordsOptions) {
    this.#users = users;
    this.#compare = compare;
    this.#now = now;
    this.#tries = new ClientLimits(TRIES, now);
  }

  /** Takes a new list of users; what was known of the old one is forgotten. */
  replace(users: Users): void {
    this.#users = users;
    this.#known.clear();
  }

  /** Whether a password is a user's. Throws TOOMANYREQUESTS for too many tries from one address. */
  async isRight(name: string, password: string, address: string): Promise<boolean> {
    if (Buffer.byteLength(password) > MAX_PASSWORD) return false;
    const hash = this.#users.get(name);
    const text = JSON.stringify([name, password, hash]);
    const id = createHmac('sha256', this.#key).update(text).digest('base64');
    const known = this.#known.get(id);
    if (known !== undefined && known.until > this.#now()) return known.isRight;
    const running = this.#running.get(id);
    if (running !== undefined) return running;
    this.#tries.take(address);
    const work = this.#ask(id, name, password);
    this.#running.set(id, work);
    try {
      return await work;
    } finally {
      this.#running.delete(id);
    }
  }

  async #ask(id: string, name: string, password: string): Promise<boolean> {
    const users = this.#users;
    const hash = users.get(name);
    // Names that do not exist take as long as those that do.
    const [some] = users.values();
    const compared = hash ?? some;
    if (compared === undefined) return false;
    const isRight = (await this.#compare(password, compared)) && hash !== undefined;
    // The list may be another by now.
    if (users !== this.#users) return isRight && this.#users.get(name) === hash;
    const until = this.#now() + (isRight ? RIGHT_MS : WRONG_MS);
    keepNewest(this.#known, id, { isRight, until }, MAX_KNOWN);
    return isRight;
  }
}
