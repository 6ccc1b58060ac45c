import { type CommandIo, logLine } from '../../shared/cli/command.ts';
import { formatBytes, formatSeconds } from '../../shared/cli/format.ts';
import type { Step, UpdateEvents } from '../update/events.ts';

/** What people read of a step. */
const LABELS: Readonly<Record<Step, string>> = {
  recover: 'looking for leftovers',
  resolve: 'asking for',
  plan: 'planning',
  wait: 'waiting',
  room: 'checking room',
  download: 'downloading',
  build: 'building',
  register: 'registering',
  deploy: 'deploying',
  verify: 'reading every layer',
  collect: 'removing what is not needed',
};

const BAR_WIDTH = 24;
/** Milliseconds between two pictures of the bar, and between two lines of a log. */
const REDRAW_MS = 100;
const LOG_MS = 10_000;
/** The rate is that of the last so many milliseconds. */
const RATE_WINDOW_MS = 8_000;

type Sample = { readonly at: number; readonly done: number };

/**
 * Shows an update: on a terminal a bar with bytes, rate and time left; elsewhere one plain line for
 * each step and, while one goes on, another every ten seconds. With `--json` nothing.
 */
export class ProgressReport implements UpdateEvents {
  readonly #io: CommandIo;
  readonly #now: () => number;
  #label = '';
  #samples: Sample[] = [];
  #shownAt = Number.NEGATIVE_INFINITY;
  #barLength = 0;

  /** `now` is a clock in milliseconds. */
  constructor(io: CommandIo, now: () => number = () => performance.now()) {
    this.#io = io;
    this.#now = now;
  }

  step(step: Step, detail?: string): void {
    this.#label = LABELS[step];
    this.#samples = [];
    this.#shownAt = this.#now();
    this.#line(`${this.#label}${detail === undefined ? '' : ` ${detail}`}`);
  }

  notice(message: string): void {
    this.#line(`note: ${message}`, 'warning');
  }

  progress(done: number, total: number, unit: 'bytes' | 'parts' = 'bytes'): void {
    if (this.#io.json) return;
    const now = this.#now();
    this.#samples.push({ at: now, done });
    while ((this.#samples[1]?.at ?? now) < now - RATE_WINDOW_MS) this.#samples.shift();
    const isTerminal = this.#io.err.isTTY === true;
    const isOver = done >= total;
    if (!isOver && now - this.#shownAt < (isTerminal ? REDRAW_MS : LOG_MS)) return;
    if (isOver && !isTerminal) return;
    this.#shownAt = now;
    const text = unit === 'bytes' ? this.#bytesText(done, total) : percent(done, total);
    if (!isTerminal) this.#line(`${this.#label} ${text}`);
    else this.#draw(`${this.#label} ${bar(done, total)} ${text}`);
  }

  /** Takes the bar away. */
  end(): void {
    if (this.#barLength > 0) this.#io.err.write(`\r${' '.repeat(this.#barLength)}\r`);
    this.#barLength = 0;
  }

  #bytesText(done: number, total: number): string {
    const first = this.#samples[0];
    const last = this.#samples.at(-1);
    const seconds = ((last?.at ?? 0) - (first?.at ?? 0)) / 1000;
    const rate = seconds > 0 ? ((last?.done ?? 0) - (first?.done ?? 0)) / seconds : 0;
    const amount = `${formatBytes(done)} of ${formatBytes(total)} (${percent(done, total)})`;
    if (rate <= 0) return amount;
    const left = done >= total ? '' : `, ${formatSeconds((total - done) / rate)} left`;
    return `${amount}, ${formatBytes(rate)}/s${left}`;
  }

  #line(text: string, priority: 'info' | 'warning' = 'info'): void {
    if (this.#io.json) return;
    this.end();
    this.#io.err.write(logLine(this.#io, priority, text));
  }

  #draw(text: string): void {
    const width = (this.#io.err.columns ?? 80) - 1;
    const shown = text.slice(0, width);
    this.#io.err.write(`\r${shown.padEnd(this.#barLength)}`);
    this.#barLength = shown.length;
  }
}

function percent(done: number, total: number): string {
  return `${total === 0 ? 100 : Math.floor((done / total) * 100)}%`;
}

function bar(done: number, total: number): string {
  const full = total === 0 ? BAR_WIDTH : Math.floor((done / total) * BAR_WIDTH);
  return `[${'#'.repeat(full).padEnd(BAR_WIDTH, '.')}]`;
}
