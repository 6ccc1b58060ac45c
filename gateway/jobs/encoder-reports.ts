import { keepNewest } from '../../shared/keep-newest.ts';

/** What machines of one class said of their encoders in one repository. */
type Suspicion = {
  /** Clients that reported, and when; milliseconds. */
  readonly reporters: Map<string, number>;
  /** Until when nothing is offered that asks for encoders. */
  until: number;
};

export type EncoderReportsOptions = {
  /** How many different clients must report before others of their class are spared. */
  readonly reporters?: number;
  /** How long a report counts, in milliseconds. */
  readonly countsMs?: number;
  /** How long encoders are not relied on then, in milliseconds. */
  readonly pauseMs?: number;
  /** Told of each report that counts: how many clients have reported by now. */
  readonly onReport?: (repository: string, machines: string, reporters: number) => void;
  readonly now?: () => number;
};

const DAY_MS = 24 * 60 * 60 * 1000;
/** Most classes remembered; beyond, the one that was quiet longest is forgotten. */
const MAX_CLASSES = 1000;

/**
 * Reports of machines whose encoders make other bytes than a delta promises. Nobody can prove such a
 * report, so that it must not do much: a machine looks after itself (it asks for no such delta any
 * more), and what others are offered changes only
 *
 * - after reports of several clients, told apart by their addresses (an IPv6 network counts once), of
 *   which each counts once and for some days;
 * - for machines that state the same class, in the same repository;
 * - for some days, after which it takes as many reports anew.
 *
 * The most that a liar with many addresses gains is that one class fetches plain deltas for a while:
 * larger, and as good. Reports are kept in memory only; a restart forgets them.
 */
export class EncoderReports {
  readonly #options: Required<Omit<EncoderReportsOptions, 'onReport'>>;
  readonly #onReport: EncoderReportsOptions['onReport'];
  readonly #classes = new Map<string, Suspicion>();

  constructor(options: EncoderReportsOptions = {}) {
    const { reporters = 3, countsMs = 7 * DAY_MS, pauseMs = 7 * DAY_MS, now = Date.now } = options;
    this.#options = { reporters, countsMs, pauseMs, now };
    this.#onReport = options.onReport;
  }

  /** Notes what a client says; `machines` is the name of the format that it asks for. */
  report(repository: string, machines: string, client: string): void {
    const { reporters, countsMs, pauseMs, now } = this.#options;
    const at = now();
    const key = keyOf(repository, machines);
    const known = this.#classes.get(key) ?? { reporters: new Map<string, number>(), until: 0 };
    for (const [other, time] of known.reporters) {
      if (at - time >= countsMs) known.reporters.delete(other);
    }
    known.reporters.set(client, at);
    const count = known.reporters.size;
    if (count >= reporters) {
      known.until = at + pauseMs;
      known.reporters.clear();
    }
    keepNewest(this.#classes, key, known, MAX_CLASSES);
    this.#onReport?.(repository, machines, count);
  }

  /** Whether encoders of such machines are not relied on at present. */
  isSuspected(repository: string, machines: string): boolean {
    const found = this.#classes.get(keyOf(repository, machines));
    return found !== undefined && this.#options.now() < found.until;
  }
}

function keyOf(repository: string, machines: string): string {
  return JSON.stringify([repository, machines]);
}
