import { CODER, type StreamCoder, type StreamName } from './header.ts';

/** How a delta is packed. */
export type LayerDeltaPacking = {
  /** zstd level, 1 to 22. */
  readonly level: number;
  /** Base-2 logarithm of the largest window of a stream. */
  readonly windowLog: number;
  /** Whether much is to be packed that is like nothing before: literals are packed quickly then. */
  readonly hasMuchNew: boolean;
};

/** Largest useful window of each stream; an encoder takes ten times its window in memory. */
const WINDOW_LOG: Readonly<Record<StreamName, number>> = {
  ...{ commands: 18, operations: 18, lengths: 19, seeks: 19, text: 18 },
  ...{ runs: 22, differences: 23, literals: 27 },
};

/**
 * Streams that LZMA packs 3 to 11 % smaller than zstd does, with the logarithms of the dictionaries: an
 * encoder takes twelve times that. Runs would take two to four seconds more, for 1 % of a delta. In
 * small layers there is too little to gain, and at lower levels of zstd no time.
 */
const DICTIONARY_LOG: Readonly<Partial<Record<StreamName, number>>> = {
  ...{ lengths: 20, seeks: 20, differences: 22, literals: 23 },
};
const MIN_LZMA_LEVEL = 18;
/** From this level on time does not matter. */
const MIN_THOROUGH_LEVEL = 20;

/** What packs a stream. */
export function coderOf(
  name: StreamName,
  { level, windowLog, hasMuchNew }: LayerDeltaPacking,
): StreamCoder {
  const dictionaryLog = DICTIONARY_LOG[name];
  const isQuick = name === 'literals' && hasMuchNew && level < MIN_THOROUGH_LEVEL;
  if (dictionaryLog !== undefined && level >= MIN_LZMA_LEVEL && windowLog >= 23 && !isQuick) {
    return { coder: CODER.XZ, parameter: dictionaryLog };
  }
  return { coder: CODER.ZSTD, parameter: Math.min(windowLog, WINDOW_LOG[name]) };
}
