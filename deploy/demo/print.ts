import { formatBytes, formatTable } from '../../shared/cli/format.ts';

/** Tells the story to a person: numbered steps, short lines, one table at the end. */
export class Teller {
  readonly #out: NodeJS.WritableStream;
  readonly #colours: boolean;
  #step = 0;

  constructor(out: NodeJS.WritableStream & { isTTY?: boolean }) {
    this.#out = out;
    this.#colours = out.isTTY === true && process.env.NO_COLOR === undefined;
  }

  step(title: string): void {
    this.#step += 1;
    this.#write(`\n${this.#paint('1', `${String(this.#step).padStart(2)}  ${title}`)}`);
  }

  say(text: string): void {
    this.#write(`    ${text}`.trimEnd());
  }

  /** What a program printed. */
  quote(output: string): void {
    for (const row of output.trim().split('\n')) this.say(`  ${row}`);
  }

  /** What somebody could type to do the same. */
  command(text: string): void {
    this.say(this.#paint('36', `$ ${text}`));
  }

  good(text: string): void {
    this.say(`${this.#paint('32', '✓')} ${text}`);
  }

  table(head: readonly string[], rows: readonly (readonly string[])[]): void {
    this.#write('');
    for (const line of formatTable(head, rows).trimEnd().split('\n')) this.say(line);
  }

  #paint(code: string, text: string): string {
    return this.#colours ? `\x1b[${code}m${text}\x1b[0m` : text;
  }

  #write(line: string): void {
    this.#out.write(`${line}\n`);
  }
}

/** `31.8 MB`; a share of something larger in brackets. */
export function bytesOf(bytes: number, whole?: number): string {
  const text = formatBytes(bytes);
  return whole === undefined ? text : `${text} (${((100 * bytes) / whole).toFixed(1)}%)`;
}
