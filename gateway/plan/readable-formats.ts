import {
  covers,
  formatName,
  type LayerFormat,
  madeFormat,
  parseFormatName,
} from '../../shared/delta/formats.ts';
import type { Recompression } from '../../shared/delta/machine-class.ts';
import { TAR_DIFF } from '../../shared/oci/media-types.ts';

/** Which deltas a client can read, and in which formats they are made for it. */
export type ReadableFormats = {
  /** Whether the client reads deltas of a format, by its name. */
  reads(name: string): boolean;
  /** Names of the formats in which deltas are made for it, most wanted first. */
  readonly made: readonly string[];
};

/**
 * What a client that names its formats, most wanted first, gets of a gateway with the encoders of
 * `maker`. Clients that say nothing read what all tools do.
 */
export function readableFormats(
  names: readonly string[] | undefined,
  maker: Recompression,
): ReadableFormats {
  const formats = (names ?? [TAR_DIFF])
    .map(parseFormatName)
    .filter((format) => format !== undefined);
  const made = formats
    .map((format) => madeFormat(format, maker))
    .filter((format) => format !== undefined)
    .map(formatName);
  const reads = (name: string) => {
    const needs: LayerFormat | undefined = parseFormatName(name);
    return needs !== undefined && formats.some((has) => covers(has, needs));
  };
  return { reads, made: [...new Set(made)] };
}

/**
 * The name under which a format is made by a gateway with the encoders of `maker`; undefined for one
 * that it does not make.
 */
export function madeFormatName(name: string, maker: Recompression): string | undefined {
  return readableFormats([name], maker).made[0];
}

/** Whether deltas of a format, by its name, have machines pack compressed files again. */
export function usesEncoders(name: string): boolean {
  const format = parseFormatName(name);
  return format?.kind === 'snapgate' && format.recompress !== undefined;
}

/** Whether deltas of a format, by its name, are for some machines only, or of a kind not known here. */
export function isForSome(name: string): boolean {
  return parseFormatName(name) === undefined || usesEncoders(name);
}
