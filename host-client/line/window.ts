import { createHash } from 'node:crypto';
import { SnapgateError } from '../../shared/errors.ts';

/** A part of the week in local time, in minutes from Monday 00:00. `end` may lie before `start`. */
type Span = { readonly start: number; readonly end: number };

/** When something may be done; no spans mean always. */
export type TimeWindow = { readonly spans: readonly Span[] };

const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];
const DAY_MINUTES = 24 * 60;
const WEEK_MINUTES = 7 * DAY_MINUTES;

/**
 * Parses `HH:MM-HH:MM`, after `mon`, `mon,wed` or `mon-fri` and a space where not every day is meant;
 * several are separated by `;`. A window whose end is not after its start ends on the next day. Throws CONFIG_INVALID.
 */
export function parseWindow(text: string): TimeWindow {
  const spans = text.split(';').flatMap((part) => parsePart(part.trim(), text));
  return { spans };
}

function parsePart(part: string, whole: string): Span[] {
  const match = /^(?:([a-z,-]+) )?(\d\d):(\d\d)-(\d\d):(\d\d)$/.exec(part.toLowerCase());
  const invalid = () =>
    new SnapgateError('CONFIG_INVALID', `not a time window: ${whole}`, {
      hint: 'Write for example "22:00-06:00" or "mon-fri 01:00-05:30; sat,sun 00:00-24:00".',
    });
  if (match === null) throw invalid();
  const [from, to] = [minutes(match[2], match[3]), minutes(match[4], match[5])];
  if (from === undefined || to === undefined || from === DAY_MINUTES) throw invalid();
  const days = match[1] === undefined ? DAYS.map((_, i) => i) : parseDays(match[1]);
  if (days === undefined) throw invalid();
  const length = to > from ? to - from : to + DAY_MINUTES - from;
  return days.map((day) => {
    const start = day * DAY_MINUTES + from;
    return { start, end: (start + length) % WEEK_MINUTES };
  });
}

function minutes(hours = '', rest = ''): number | undefined {
  const total = Number(hours) * 60 + Number(rest);
  return Number(rest) < 60 && total <= DAY_MINUTES ? total : undefined;
}

function parseDays(text: string): number[] | undefined {
  const days: number[] = [];
  for (const part of text.split(',')) {
    const [first = '', last = first] = part.split('-');
    const from = DAYS.indexOf(first);
    const to = DAYS.indexOf(last);
    if (from < 0 || to < 0) return undefined;
    for (let day = from; ; day = (day + 1) % 7) {
      days.push(day);
      if (day === to) break;
    }
  }
  return days;
}

/** Seconds until the window is open: 0 while it is. `now` is read in the machine's own time zone. */
export function secondsUntilOpen(window: TimeWindow, now: Date): number {
  if (window.spans.length === 0) return 0;
  const day = (now.getDay() + 6) % 7;
  const at = day * DAY_MINUTES + now.getHours() * 60 + now.getMinutes() + now.getSeconds() / 60;
  const waits = window.spans.map(({ start, end }) => {
    const since = (at - start + WEEK_MINUTES) % WEEK_MINUTES;
    const length = (end - start + WEEK_MINUTES) % WEEK_MINUTES || WEEK_MINUTES;
    return since < length ? 0 : (start - at + WEEK_MINUTES) % WEEK_MINUTES;
  });
  return Math.ceil(Math.min(...waits) * 60);
}

/**
 * A delay that is always the same on one machine and spread evenly over a fleet, in seconds from 0 to
 * `most`. `purpose` makes the delays of one machine differ from each other. The machine's id stays
 * secret, as machine-id(5) asks.
 */
export function stableDelay(machineId: string, purpose: string, most: number): number {
  const hash = createHash('sha256').update(`snaphost ${purpose}\0${machineId.trim()}`).digest();
  return (hash.readUInt32BE(0) / 2 ** 32) * most;
}
