import type { CommandIo } from '../../shared/cli/command.ts';

const WIDTH = 30;

/** A line on a terminal that shows how far something is; elsewhere nothing. */
export class ProgressLine {
  readonly #io: CommandIo;
  readonly #label: string;
  #shown = '';

  constructor(io: CommandIo, label: string) {
    this.#io = io;
    this.#label = label;
  }

  /** Takes 0 to 1. */
  show(fraction: number): void {
    if (this.#io.err.isTTY !== true || this.#io.json) return;
    const full = Math.round(fraction * WIDTH);
    const bar = '#'.repeat(full).padEnd(WIDTH, '.');
    const text = `${this.#label}[${bar}] ${String(Math.floor(fraction * 100)).padStart(3)}%`;
    if (text === this.#shown) return;
    this.#shown = text;
    this.#io.err.write(`\r${text}`);
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#shown !== '') this.#io.err.write(`\r${' '.repeat(this.#shown.length)}\r`);
    this.#shown = '';
  }
}
