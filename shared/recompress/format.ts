import { SnapgateError } from '../errors.ts';
import type { ByteSource, PackedFormat, PackedPart, UnpackLimits } from './part.ts';
import type { Recipe } from './recipe.ts';

/** One kind of compressed stream: how it is recognised, opened, and probably was made. */
export type Format = {
  readonly name: PackedFormat;
  /**
   * Size in bytes of the one stream that starts at `offset`; undefined where none does, where it is
   * cut short or damaged, or beyond the limits.
   */
  measure(source: ByteSource, offset: number, limits: UnpackLimits): Promise<number | undefined>;
  /**
   * The content of a stream, which `open` reads from its start. Throws what the decoder throws when it
   * is damaged.
   */
  unpack(open: () => Iterable<Uint8Array>, limits: UnpackLimits): AsyncIterable<Uint8Array>;
  /**
   * Recipes of the encoders named that may have made a stream, the likeliest first; the stream
   * itself says most.
   */
  propose(source: ByteSource, part: PackedPart, encoders: readonly string[]): readonly Recipe[];
};

/** Passes content on and throws LIMIT_EXCEEDED where it becomes too much for what it came from. */
export async function* bounded(
  content: AsyncIterable<Uint8Array>,
  packedSize: number,
  limits: UnpackLimits,
): AsyncGenerator<Uint8Array> {
  const limit = Math.min(
    limits.maxUnpackedBytes,
    Math.max(1024 ** 2, packedSize * limits.maxRatio),
  );
  let size = 0;
  for await (const bytes of content) {
    size += bytes.length;
    if (size > limit) {
      throw new SnapgateError('LIMIT_EXCEEDED', 'compressed content unpacks to too much', {
        hint: `The limit is ${limit} bytes.`,
      });
    }
    yield bytes;
  }
}
