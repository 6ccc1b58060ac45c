import { bounded, type Format } from './format.ts';
import { gzipFormat } from './gzip/format.ts';
import { lz4LegacyFormat } from './lz4/legacy.ts';
import {
  type ByteSource,
  DEFAULT_UNPACK_LIMITS,
  type PackedFormat,
  type PackedPart,
  readChunks,
  type UnpackLimits,
} from './part.ts';
import { xzFormat } from './xz/format.ts';
import { zstdFormat } from './zstd/format.ts';
import { zstdParseFormat } from './zstd/parse/format.ts';

/** All kinds of compressed stream that are told apart by what they hold. */
export const FORMATS: readonly Format[] = [gzipFormat, xzFormat, lz4LegacyFormat, zstdFormat];
const BY_NAME: ReadonlyMap<PackedFormat, Format> = new Map(
  [...FORMATS, zstdParseFormat].map((format) => [format.name, format]),
);

export function formatOf(part: Pick<PackedPart, 'format'>): Format {
  const format = BY_NAME.get(part.format);
  if (format === undefined) throw new TypeError(`no format ${part.format}`);
  return format;
}

/**
 * The content of a packed part. Needs no recipe: every correct decoder gives the same. Throws
 * LIMIT_EXCEEDED, and what the decoder throws for damaged data.
 */
export function unpackPart(
  source: ByteSource,
  part: PackedPart,
  limits: UnpackLimits = DEFAULT_UNPACK_LIMITS,
): AsyncIterable<Uint8Array> {
  const open = () => readChunks(source, part.offset, part.size);
  return bounded(formatOf(part).unpack(open, limits), part.size, limits);
}
