import * as v from 'valibot';
import { SnapgateError } from '../../shared/errors.ts';

/** Bytes that came over the line on one day. Stored as JSON in the state folder. */
export const budgetSchema = v.object({
  /** Local date, `YYYY-MM-DD`. */
  day: v.string(),
  bytes: v.pipe(v.number(), v.safeInteger(), v.minValue(0)),
});
export type BudgetState = v.InferOutput<typeof budgetSchema>;

/** How often the count is written down, in bytes: a crash forgets at most this much. */
const WRITE_EVERY = 1024 * 1024;

/** Keeps what is downloaded within a number of bytes a day. */
export class DailyBudget {
  readonly #limit: number;
  readonly #save: (state: BudgetState) => Promise<void>;
  readonly #now: () => Date;
  #state: BudgetState;
  #unsaved = 0;

  /** `limit` is bytes a day; `save` keeps the count beyond this process. */
  constructor(
    limit: number,
    state: BudgetState | undefined,
    save: (state: BudgetState) => Promise<void>,
    now: () => Date = () => new Date(),
  ) {
    this.#limit = limit;
    this.#save = save;
    this.#now = now;
    this.#state = state ?? { day: '', bytes: 0 };
  }

  /** Bytes that may still come today. */
  get left(): number {
    const spent = this.#state.day === today(this.#now()) ? this.#state.bytes : 0;
    return Math.max(0, this.#limit - spent);
  }

  /** Counts bytes that came. Throws BUDGET_SPENT once the day's are used up. */
  async spend(bytes: number): Promise<void> {
    const day = today(this.#now());
    const before = this.#state.day === day ? this.#state.bytes : 0;
    this.#state = { day, bytes: before + bytes };
    this.#unsaved += bytes;
    const isSpent = this.#state.bytes > this.#limit;
    if (isSpent || this.#unsaved >= WRITE_EVERY) await this.flush();
    if (isSpent) {
      throw new SnapgateError('BUDGET_SPENT', `today's ${this.#limit} bytes are used up`, {
        hint: 'The download goes on tomorrow where it stopped.',
      });
    }
  }

  /** Writes the count down. */
  async flush(): Promise<void> {
    if (this.#unsaved === 0) return;
    this.#unsaved = 0;
    await this.#save(this.#state);
  }
}

function today(now: Date): string {
  const pad = (n: number) => String(n).padStart(2, '0');
  return `${now.getFullYear()}-${pad(now.getMonth() + 1)}-${pad(now.getDate())}`;
}
