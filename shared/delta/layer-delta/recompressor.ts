import { SnapgateError } from '../../errors.ts';
import { createEncoders, type Encoders, recipeCost, repack } from '../../recompress/encoders.ts';
import { unpackPart } from '../../recompress/formats.ts';
import { contentOf, DEFAULT_UNPACK_LIMITS, PACKED_FORMATS } from '../../recompress/part.ts';
import { parseRecipe } from '../../recompress/recipe.ts';
import type { Recompressor } from './reader.ts';
import { sourceMismatch } from './source-reader.ts';

/** Methods of UNPACK (FORMAT.md section 8): their number is the place here plus one. */
export const UNPACK_METHODS = PACKED_FORMATS;

export type RecompressorOptions = {
  readonly encoders?: Encoders;
  /** Most bytes of memory that one encoder may take. */
  readonly maxMemoryBytes: number;
  /** How many encoders and decoders may run at once. */
  readonly concurrency?: number;
};

/** Packs and unpacks with the encoders of this process, so many at a time as it is told. */
export function createRecompressor(options: RecompressorOptions): Recompressor {
  const encoders = options.encoders ?? createEncoders();
  const turns = new Turns(options.concurrency ?? 1);
  return {
    unpack(method, packed, size) {
      const format = UNPACK_METHODS[method - 1];
      if (format === undefined) {
        throw new SnapgateError('UNSUPPORTED', `content packed by method ${method} is unknown`);
      }
      const part = { kind: 'packed' as const, offset: 0, size: packed.size, format };
      const limits = { ...DEFAULT_UNPACK_LIMITS, maxUnpackedBytes: size, maxRatio: Infinity };
      return turns.take(() => unpacked(packed, part, limits));
    },
    encode(text, content) {
      const recipe = parseRecipe(Buffer.from(text).toString('latin1'));
      const { memoryBytes } = recipeCost(encoders, recipe, content.size);
      if (memoryBytes > options.maxMemoryBytes) {
        throw new SnapgateError('LIMIT_EXCEEDED', `${recipe.encoder} needs too much memory`, {
          where: `${memoryBytes} bytes, at most ${options.maxMemoryBytes} are allowed`,
          hint: 'Ask for a delta without recompression, or fetch the full image.',
        });
      }
      return turns.take(() => repack(encoders, recipe, contentOf(content)));
    },
  };
}

/** A source that cannot be unpacked is not the one that the delta is for. */
async function* unpacked(
  ...[packed, part, limits]: Parameters<typeof unpackPart>
): AsyncGenerator<Uint8Array, void, void> {
  try {
    yield* unpackPart(packed, part, limits);
  } catch (error) {
    if (error instanceof SnapgateError && error.code !== 'TAR_INVALID') throw error;
    throw sourceMismatch('a source cannot be unpacked', part.format, error);
  }
}

/** Lets so many iterations run at once, in the order in which they were begun. */
class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    if (count < 1) throw new RangeError('nothing may run');
    this.#free = count;
  }

  async *take(begin: () => AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      yield* begin();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
