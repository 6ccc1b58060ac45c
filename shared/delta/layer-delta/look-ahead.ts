import type { SourceTree } from '../piece.ts';
import type { SourceEntries } from './source-entries.ts';

/** How many entries of the source are looked at before they are asked for. */
const AHEAD = 24;

/**
 * Tells a source tree which of its files are likely to be read soon: most of what comes next in a
 * delta stands next in its source, too. `entries` are for this alone.
 */
export class LookAhead {
  readonly #source: SourceTree;
  readonly #entries: SourceEntries;
  #next = 0;

  constructor(source: SourceTree, entries: SourceEntries) {
    this.#source = source;
    this.#entries = entries;
  }

  /** The delta has come to this entry of the source. */
  from(pointer: number): void {
    if (this.#source.expect === undefined) return;
    const end = pointer + AHEAD;
    try {
      for (let at = Math.max(pointer, this.#next); at < end; at += 1) {
        if (!this.#entries.allows(at + 1)) break;
        const { facts } = this.#entries.at(at);
        if (facts.size > 0) this.#source.expect(facts.path);
      }
      this.#next = Math.max(this.#next, end);
    } catch {
      // What is wrong with the source matters when it is asked for.
      this.#next = Number.POSITIVE_INFINITY;
    }
  }
}
