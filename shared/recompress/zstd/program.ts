import type { ZstdSettings } from './encoder.ts';

/** From this level on the program wants to be told that its memory is no mistake. */
const ULTRA_LEVEL = 20;

/**
 * Arguments that make the `zstd` program pack its standard input to its standard output as a recipe
 * says (zstd(1)). One worker gives the same bytes as any number of them.
 */
export function zstdArguments(settings: ZstdSettings): string[] {
  const { level, workers, checksum, contentSize } = settings;
  return [
    ...['-q', '-c', '--no-progress', `-${level}`],
    ...(level >= ULTRA_LEVEL ? ['--ultra'] : []),
    workers > 0 ? '-T1' : '--single-thread',
    checksum ? '--check' : '--no-check',
    ...(contentSize === undefined ? [] : [`--stream-size=${contentSize}`]),
  ];
}

/** Arguments that make the program say its version. */
export const ZSTD_VERSION_ARGUMENTS: readonly string[] = ['--version'];

/** The version in what `zstd --version` prints, or undefined. */
export function parseZstdVersion(text: string): string | undefined {
  return /\bv?(\d{1,3}\.\d{1,3}\.\d{1,3})\b/.exec(text)?.[1];
}
