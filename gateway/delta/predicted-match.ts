import type { ContentWriter } from '../../shared/delta/layer-delta/content-writer.ts';
import { AddressMap, MAX_PREDICTED, MODE } from '../../shared/delta/layer-delta/prediction.ts';
import type { MovedProgram } from './address-map.ts';
import { overlap, type Place } from './address-tables.ts';
import { differing } from './match-index.ts';

/** Modes are chosen for blocks of this many bytes. */
const BLOCK = 4096;
/** With fewer differing bytes in a block nothing is predicted. */
const MIN_DIFFERING = 16;
/**
 * A mode that leaves no more than this share of the bytes that differ needs no rival. In tables of words,
 * where much may look like an address, another one is chance.
 */
const GOOD_SHARE = 0.5;
/** What changing the mode costs, in bytes. */
const SWITCH_COST = 6;

/** Those for tables of words. */
const WORD_MODES = [MODE.RELATIVE_WORDS, MODE.ADDRESS_WORDS, MODE.ADDRESSES];

/** A stretch of a content that resembles one of a source. */
export type MatchedStretch = {
  /** The source's place in the table of sources. */
  readonly source: number;
  /** Where `old` stands in the source, and `fresh` in the content; bytes. */
  readonly position: number;
  readonly made: number;
  readonly old: Buffer;
  readonly fresh: Buffer;
};

/** Adds stretches with the mode of prediction that suits each part of them best. */
export class PredictedMatch {
  readonly #map: AddressMap;
  readonly #guess = Buffer.allocUnsafe(MAX_PREDICTED);
  readonly #modes: readonly number[];
  readonly #words: readonly Place[];
  #mode: number = MODE.PLAIN;

  constructor({ map, codeMode, words }: MovedProgram) {
    this.#map = new AddressMap(map);
    this.#modes = [codeMode, MODE.ADDRESSES];
    this.#words = words;
  }

  add(out: ContentWriter, stretch: MatchedStretch): void {
    const { length } = stretch.fresh;
    for (let start = 0; start < length; ) {
      const mode = this.#choose(stretch, start);
      let end = Math.min(length, start + BLOCK);
      while (end < length && end + BLOCK - start <= MAX_PREDICTED) {
        if (this.#choose(stretch, end) !== mode) break;
        end = Math.min(length, end + BLOCK);
      }
      this.#add(out, stretch, start, end, mode);
      start = end;
    }
  }

  #add(out: ContentWriter, stretch: MatchedStretch, start: number, end: number, mode: number) {
    const { source, position } = stretch;
    const old = stretch.old.subarray(start, end);
    const fresh = stretch.fresh.subarray(start, end);
    this.#mode = mode;
    if (mode === MODE.PLAIN) out.add(source, position + start, old, fresh);
    else {
      const guess = this.#predict(stretch, start, end, mode);
      out.addPredicted(source, position + start, mode, guess, fresh);
    }
  }

  #predict({ old, position, made }: MatchedStretch, start: number, end: number, mode: number) {
    const bytes = old.subarray(start, end);
    const guess = this.#guess.subarray(0, bytes.length);
    guess.set(bytes);
    this.#map.predict(mode, guess, bytes, position + start, made + start);
    return guess;
  }

  #choose(stretch: MatchedStretch, start: number): number {
    const end = Math.min(stretch.fresh.length, start + BLOCK);
    const fresh = stretch.fresh.subarray(start, end);
    const plain = differing(stretch.old.subarray(start, end), fresh);
    if (plain < MIN_DIFFERING) return MODE.PLAIN;
    let best: number = MODE.PLAIN;
    let least = plain + (this.#mode === MODE.PLAIN ? 0 : SWITCH_COST);
    const place = { offset: stretch.made + start, length: end - start };
    const isWords = this.#words.some((table) => overlap(table, place));
    for (const mode of isWords ? WORD_MODES : this.#modes) {
      const guess = this.#predict(stretch, start, end, mode);
      const left = differing(guess, fresh);
      const isGood = left <= plain * GOOD_SHARE;
      if (isWords && !isGood) continue;
      const cost = left + (this.#mode === mode ? 0 : SWITCH_COST);
      if (cost < least) {
        best = mode;
        least = cost;
      }
      if (isGood) break;
    }
    return best;
  }
}
