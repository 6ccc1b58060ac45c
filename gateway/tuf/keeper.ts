import { toSnapgateError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import type { TufFolder } from './folder.ts';
import { type OnlineSigning, signOnline } from './online.ts';
import { endingSoon, readState } from './state.ts';
import { type TakeOver, takeOver } from './take-over.ts';

/** How often a repository is looked at, in milliseconds. */
const LOOK_MS = 60_000;

export type TufKeeperOptions = {
  readonly folder: TufFolder;
  readonly signing: OnlineSigning | undefined;
  /** Where what people sign is taken from; nowhere, when they publish into the folder. */
  readonly from?: TakeOver | undefined;
  readonly log: Log;
  /** Milliseconds between two looks. */
  readonly everyMs?: number;
};

/**
 * Keeps a repository fit to be served: what was published is taken into a new snapshot, and snapshot
 * and timestamp are signed anew when half of their time is over.
 */
export class TufKeeper {
  readonly #options: TufKeeperOptions;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> = Promise.resolve();
  #reported: string | undefined;
  #isLooking = false;
  readonly #warned = new Set<string>();

  constructor(options: TufKeeperOptions) {
    this.#options = options;
  }

  /** Looks now and then again and again. */
  async start(): Promise<void> {
    this.#timer = setInterval(() => this.#look(), this.#options.everyMs ?? LOOK_MS);
    await this.#look();
  }

  /** Ends it; what is being written is finished. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  #look(): Promise<void> {
    if (this.#isLooking) return this.#running;
    this.#isLooking = true;
    this.#running = this.#sign().finally(() => {
      this.#isLooking = false;
    });
    return this.#running;
  }

  /** Says of each version once that people must renew it. */
  async #warn(now: Date): Promise<void> {
    const { folder, log } = this.#options;
    for (const { role, expires } of endingSoon(await readState(folder), now)) {
      const name = `${role} ${expires}`;
      if (!this.#warned.has(name)) log('warn', 'channel metadata ends soon', { role, expires });
      this.#warned.add(name);
    }
  }

  async #sign(): Promise<void> {
    const { folder, signing, from, log } = this.#options;
    try {
      const files = from === undefined ? [] : await takeOver(folder, from);
      if (files.length > 0) log('info', 'channel metadata taken over', { files: files.join(' ') });
      const now = new Date();
      const signed = signing && (await signOnline(folder, signing, now));
      const { snapshot, timestamp } = signed ?? {};
      this.#reported = undefined;
      await this.#warn(now);
      if (timestamp !== undefined) log('info', 'channel metadata signed', { snapshot, timestamp });
    } catch (thrown) {
      const { code, message, hint } = toSnapgateError(thrown);
      // Said once, not every minute.
      if (this.#reported !== message) {
        log('warn', 'channel metadata not signed', { code, reason: message, hint });
      }
      this.#reported = message;
    }
  }
}
