import { SnapgateError } from '../errors.ts';
import type { Content, Encoder, RecipeCost } from './encoder.ts';
import { gnuGzipEncoder, zlibEncoder } from './gzip/encoder.ts';
import { lz4LegacyEncoder } from './lz4/legacy.ts';
import type { Recipe } from './recipe.ts';
import { createXzEncoder } from './xz/encoder.ts';
import { builtInZstd, zstdEncoder } from './zstd/encoder.ts';
import { lazyZstdEncoder } from './zstd/lazy/encoder.ts';
import { zstdParseEncoder } from './zstd/parse/encoder.ts';

/** The encoders that a process has, by name. */
export type Encoders = ReadonlyMap<string, Encoder>;

/** The encoders that come with Snapgate, and `others` that this machine has; those win. */
export function createEncoders(others: readonly Encoder[] = []): Encoders {
  const zstd = zstdEncoder(builtInZstd);
  const all = [
    gnuGzipEncoder,
    zlibEncoder,
    createXzEncoder(),
    lz4LegacyEncoder,
    lazyZstdEncoder,
    zstdParseEncoder,
    zstd,
    ...others,
  ];
  return new Map(all.map((encoder) => [encoder.name, encoder]));
}

/** The encoder of a recipe. Throws UNSUPPORTED where this machine has none of that name. */
export function encoderFor(encoders: Encoders, recipe: Recipe): Encoder {
  const encoder = encoders.get(recipe.encoder);
  if (encoder === undefined) {
    throw new SnapgateError('UNSUPPORTED', `this machine has no encoder ${recipe.encoder}`, {
      hint: 'Ask for a delta without recompression.',
    });
  }
  return encoder;
}

/** What a recipe takes for content of a size. Throws UNSUPPORTED and DELTA_INVALID. */
export function recipeCost(encoders: Encoders, recipe: Recipe, contentBytes: number): RecipeCost {
  return encoderFor(encoders, recipe).cost(recipe, contentBytes);
}

/** Packs content by a recipe: the original compressed bytes. Throws UNSUPPORTED, DELTA_INVALID. */
export function repack(
  encoders: Encoders,
  recipe: Recipe,
  content: Content,
): AsyncIterable<Uint8Array> {
  return encoderFor(encoders, recipe).pack(recipe, content);
}
