import { Readable } from 'node:stream';
import { constants, createZstdDecompress } from 'node:zlib';
import type { Format } from '../format.ts';
import { builtInZstd } from './encoder.ts';
import { readZstdFrame } from './frame.ts';
import { LAZY_LEVELS, lazyZstdEncoder } from './lazy/encoder.ts';

const CHUNK = 256 * 1024;

/** Levels by the base-2 logarithm of their window, the likeliest first. */
const LEVELS: Readonly<Record<number, readonly number[]>> = {
  19: [1],
  20: [2],
  21: [3, 6, 5, 8, 7, 4],
  22: [9, 12, 15, 10, 11, 13, 14, 16],
  23: [19, 18, 17],
  25: [20],
  26: [21],
  27: [22],
};

/** Small content has a window of its own size at any level. */
const ANY_LEVEL = [3, 19, 9, 22, 1, 6, 15];

/** zstd frames (RFC 8878) without dictionary. */
export const zstdFormat: Format = {
  name: 'zstd',

  measure(source, offset, limits) {
    const frame = readZstdFrame(source, offset);
    const usable = frame !== undefined && frame.windowBytes <= limits.maxWindowBytes;
    return Promise.resolve(usable ? frame.size : undefined);
  },

  async *unpack(open, limits) {
    const windowLog = Math.floor(Math.log2(limits.maxWindowBytes));
    const params = { [constants.ZSTD_d_windowLogMax]: windowLog };
    yield* Readable.from(open()).pipe(createZstdDecompress({ chunkSize: CHUNK, params }));
  },

  propose(source, part, encoders) {
    const frame = readZstdFrame(source, part.offset);
    if (frame === undefined) return [];
    const levels = frame.single
      ? ANY_LEVEL
      : (LEVELS[Math.ceil(Math.log2(frame.windowBytes))] ?? []);
    return levels.flatMap((level) =>
      attempts(encoders, level).map(([encoder, settings]) => ({
        encoder,
        settings: { level, ...settings },
        frame: frame.header,
      })),
    );
  },
};

type Attempt = readonly [encoder: string, settings: Readonly<Record<string, number>>];

/** Ways to pack at a level: the fastest first, and the multi-threaded mode before the other. */
function attempts(encoders: readonly string[], level: number): Attempt[] {
  const builtIn = `zstd-${builtInZstd.version}`;
  const versions = encoders.filter((name) => /^zstd-\d/.test(name));
  const programs = versions.filter((name) => name !== builtIn);
  const lazy = encoders.includes(lazyZstdEncoder.name) && LAZY_LEVELS.includes(level);
  const multiThreaded = (names: readonly string[]): Attempt[] =>
    names.map((name) => [name, { workers: 1 }]);
  return [
    ...multiThreaded(programs),
    ...(lazy ? [[lazyZstdEncoder.name, {}] as const] : []),
    ...multiThreaded(versions.filter((name) => name === builtIn)),
    ...versions.map((name) => [name, { workers: 0 }] as const),
  ];
}
