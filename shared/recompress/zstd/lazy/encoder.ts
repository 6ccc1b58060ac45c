import { SnapgateError } from '../../../errors.ts';
import type { Encoder, PackedStart } from '../../encoder.ts';
import { type Recipe, readSettings } from '../../recipe.ts';
import { certainHalf, readZstdHeader } from '../frame.ts';
import { Xxh64 } from '../xxh64.ts';
import { JobPacker } from './jobs.ts';
import type { LazyLevel } from './row-matcher.ts';

/** Levels with a lazy strategy. */
const LEVELS: Readonly<Record<number, LazyLevel & { readonly seconds: number }>> = {
  6: { windowLog: 21, hashLog: 19, searchLog: 3, depth: 1, seconds: 0.15 },
  7: { windowLog: 21, hashLog: 20, searchLog: 4, depth: 1, seconds: 0.17 },
  8: { windowLog: 21, hashLog: 20, searchLog: 4, depth: 2, seconds: 0.18 },
  9: { windowLog: 22, hashLog: 21, searchLog: 4, depth: 2, seconds: 0.2 },
  10: { windowLog: 22, hashLog: 22, searchLog: 5, depth: 2, seconds: 0.3 },
  11: { windowLog: 22, hashLog: 22, searchLog: 6, depth: 2, seconds: 0.4 },
  12: { windowLog: 22, hashLog: 23, searchLog: 6, depth: 2, seconds: 0.4 },
};
export const LAZY_LEVELS: readonly number[] = Object.keys(LEVELS).map(Number);

const MIB = 1024 ** 2;

function lazySettings(recipe: Recipe) {
  const { level } = readSettings(recipe, { level: [6, 12] });
  const settings = LEVELS[level];
  const header = readZstdHeader(recipe.frame);
  if (settings === undefined || header?.header.length !== recipe.frame.length) {
    throw new SnapgateError('DELTA_INVALID', 'a recipe has no possible settings for zstd');
  }
  return { settings, checksum: header.checksum };
}

/**
 * zstd's levels 6 to 12 in multi-threaded mode, as the versions 1.5.2 to 1.5.4 write them, of which
 * no build runs everywhere: those of Debian 12, whose initrds are packed at level 9. Streams in
 * bounded memory.
 */
export const lazyZstdEncoder: Encoder = {
  name: 'zstd-lazy-1.5.4',

  cost(recipe) {
    const { settings } = lazySettings(recipe);
    const tables = 6 * 2 ** settings.hashLog;
    const job = 5 * 2 ** settings.windowLog;
    return { memoryBytes: tables + job + 8 * MIB, secondsPerMegabyte: settings.seconds };
  },

  async *pack(recipe, content) {
    const { settings, checksum } = lazySettings(recipe);
    const packer = new JobPacker(settings);
    const hash = new Xxh64();
    yield recipe.frame;
    for await (const bytes of content.open()) {
      if (checksum) hash.update(bytes);
      for (let at = 0; at < bytes.length; ) {
        at += packer.fill(bytes.subarray(at));
        if (packer.full) yield* packer.pack(false);
      }
    }
    yield* packer.pack(true);
    if (!checksum) return;
    const trailer = Buffer.alloc(4);
    trailer.writeUInt32LE(Number(hash.digest() & 0xffffffffn));
    yield trailer;
  },

  async probe(recipe, readStart): Promise<PackedStart> {
    const packer = new JobPacker(lazySettings(recipe).settings);
    packer.fill(await readStart(MIB));
    const blocks = Buffer.concat([...packer.pack(true)]);
    return { offset: recipe.frame.length, bytes: certainHalf(blocks) };
  },
};
