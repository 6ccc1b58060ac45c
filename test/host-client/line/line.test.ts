import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { backOffSeconds } from '../../../host-client/line/back-off.ts';
import { type BudgetState, DailyBudget } from '../../../host-client/line/budget.ts';
import { RateLimit } from '../../../host-client/line/rate-limit.ts';
import { parseWindow, secondsUntilOpen, stableDelay } from '../../../host-client/line/window.ts';

/** 2026-11-23 is a Monday. */
const at = (day: number, time: string) => new Date(`2026-11-${22 + day}T${time}:00`);

describe('a time window', () => {
  it('is open between its ends, and says how long it is closed', () => {
    const window = parseWindow('22:00-06:00');
    expect(secondsUntilOpen(window, at(1, '23:30'))).toBe(0);
    expect(secondsUntilOpen(window, at(1, '05:59'))).toBe(0);
    expect(secondsUntilOpen(window, at(1, '06:00'))).toBe(16 * 3600);
    expect(secondsUntilOpen(window, at(7, '21:00'))).toBe(3600);
  });

  it('knows days, and runs over the end of the week', () => {
    const window = parseWindow('mon-fri 01:00-05:30; sun 23:00-02:00');
    expect(secondsUntilOpen(window, at(1, '01:30'))).toBe(0);
    expect(secondsUntilOpen(window, at(5, '06:00'))).toBe((2 * 24 + 17) * 3600);
    expect(secondsUntilOpen(parseWindow('sat,sun 00:00-24:00'), at(6, '12:00'))).toBe(0);
    expect(secondsUntilOpen(parseWindow('00:00-24:00'), at(3, '12:00'))).toBe(0);
  });

  it.each(['', '25:00-26:00', '10:00', 'foo 10:00-11:00', '10:60-11:00', '24:00-01:00'])(
    'refuses %j',
    (text) => {
      expect(() => parseWindow(text)).toThrow('not a time window');
    },
  );

  it('is open after the wait that it names', () => {
    const times = fc.date({
      min: new Date(2026, 0, 1),
      max: new Date(2026, 1, 28),
      noInvalidDate: true,
    });
    fc.assert(
      fc.property(times, (now) => {
        const window = parseWindow('tue 03:15-04:00;fri-sat 22:00-01:00');
        const wait = secondsUntilOpen(window, now);
        expect(secondsUntilOpen(window, new Date(now.getTime() + wait * 1000))).toBe(0);
      }),
    );
  });
});

describe('a stable delay', () => {
  it('is the same each time, other for another purpose, and spread over machines', () => {
    const of = (id: number, purpose = 'download') => stableDelay(`${id}`, purpose, 3600);
    expect(of(1)).toBe(of(1));
    expect(of(1)).not.toBe(of(1, 'reboot'));
    const all = Array.from({ length: 1000 }, (_, i) => of(i));
    expect(Math.min(...all)).toBeGreaterThanOrEqual(0);
    expect(Math.max(...all)).toBeLessThan(3600);
    expect(all.filter((delay) => delay < 1800).length).toBeGreaterThan(400);
  });
});

describe('back-off', () => {
  it('grows to its longest and stays in its upper half', () => {
    const wait = (attempt: number, random: number) =>
      backOffSeconds(attempt, { first: 10, longest: 600 }, 0, () => random);
    expect([wait(1, 0), wait(1, 1), wait(3, 1), wait(50, 1), wait(5000, 0)]).toEqual([
      5, 10, 40, 600, 300,
    ]);
  });

  it('waits as long as the server asked, within a day', () => {
    const options = { first: 1, longest: 2 };
    expect(backOffSeconds(1, options, 120)).toBe(120);
    expect(backOffSeconds(1, options, 1e9)).toBe(86_400);
  });
});

describe('a rate limit', () => {
  it('passes no more than its rate, whatever the chunks are', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 200_000 }), { minLength: 1, maxLength: 40 }),
        async (chunks) => {
          let now = 0;
          const pause = async (ms: number) => {
            now += ms;
          };
          const clock = { now: () => now, pause };
          const limit = new RateLimit(100_000, clock);
          for (const bytes of chunks) await limit.take(bytes);
          const total = chunks.reduce((a, b) => a + b, 0);
          expect(total).toBeLessThanOrEqual(25_000 + (now / 1000) * 100_000 + 1);
          expect(now).toBeLessThanOrEqual((total / 100_000) * 1000 + 1);
        },
      ),
    );
  });
});

describe('a daily budget', () => {
  it('stops at the limit and starts anew the next day', async () => {
    let day = at(1, '12:00');
    let saved: BudgetState | undefined;
    const open = () =>
      new DailyBudget(
        1000,
        saved,
        async (state) => {
          saved = state;
        },
        () => day,
      );
    const budget = open();
    await budget.spend(600);
    expect(budget.left).toBe(400);
    await expect(budget.spend(600)).rejects.toMatchObject({ code: 'BUDGET_SPENT' });
    expect(open().left).toBe(0);
    day = at(2, '00:01');
    expect(open().left).toBe(1000);
    await open().spend(1000);
  });
});
