/**
 * What a machine packs compressed content with, as far as it decides whether the original bytes come
 * out and whether it can afford it; or what of that a delta needs. All machines of one class get the
 * same delta. The processor is no part of it: every encoder makes the same bytes on all of them.
 */
export type Recompression = {
  /** Number of the set of encoders that come with Snapgate ({@link ENCODER_SET}). */
  readonly set: number;
  /** Memory that one encoder may take, in MiB. */
  readonly memory: number;
  /** Version of the liblzma that comes with Snapgate. */
  readonly lzma: string;
  /** Version of the zstd inside of Node.js. */
  readonly zstd?: string | undefined;
  /** Version of the system's own `zstd`. */
  readonly program?: string | undefined;
};

/**
 * Raised when an encoder that comes with Snapgate (`shared/recompress`) makes other bytes than before
 * or takes more memory, and when one is added: 3 brought `zstd-parse`, 4 larger dictionaries and
 * blocks of `xz`. Programs of set 1 may end a frame of the zstd inside of Node.js with an empty one,
 * as the timing goes.
 */
export const ENCODER_SET = 4;
/** The version that `node-liblzma` brings. */
export const LZMA_VERSION = '5.8.4';
/** The amounts of memory that classes differ by, in MiB: few, so that many machines share a delta. */
export const MEMORY_TIERS: readonly number[] = [32, 128, 256, 1024];

const VERSION = '(\\d{1,3}\\.\\d{1,3}\\.\\d{1,3})';
const TEXT = new RegExp(
  `^recompress=(\\d{1,4});memory=(\\d{1,5});lzma=${VERSION}(?:;zstd=${VERSION})?(?:;program=${VERSION})?$`,
);

/** As in `recompress=3;memory=128;lzma=5.8.4;zstd=1.5.7;program=1.5.4`. */
export function formatRecompression({ set, memory, lzma, zstd, program }: Recompression): string {
  return [
    `recompress=${set};memory=${memory};lzma=${lzma}`,
    ...(zstd === undefined ? [] : [`zstd=${zstd}`]),
    ...(program === undefined ? [] : [`program=${program}`]),
  ].join(';');
}

/** Undefined for anything else than what {@link formatRecompression} writes. */
export function parseRecompression(text: string): Recompression | undefined {
  const [, set, memory, lzma, zstd, program] = TEXT.exec(text) ?? [];
  if (lzma === undefined) return undefined;
  const found = {
    ...{ set: Number(set), memory: Number(memory), lzma },
    ...(zstd === undefined ? {} : { zstd }),
    ...(program === undefined ? {} : { program }),
  };
  // One spelling only: names are compared.
  return formatRecompression(found) === text ? found : undefined;
}

/** Memory that an encoder may take on machines of a class, in bytes. */
export function encoderBytes({ memory }: Recompression): number {
  return memory * 1024 * 1024;
}

/** The largest amount of memory that classes have and that is at most so many MiB; 0 for none. */
export function memoryTier(mebibytes: number): number {
  return MEMORY_TIERS.findLast((tier) => tier <= mebibytes) ?? 0;
}

/** Whether what a delta needs is what a machine has. */
export function coversRecompression(has: Recompression, needs: Recompression): boolean {
  return (
    has.set === needs.set &&
    has.lzma === needs.lzma &&
    has.memory >= needs.memory &&
    (needs.zstd === undefined || needs.zstd === has.zstd) &&
    (needs.program === undefined || needs.program === has.program)
  );
}

/**
 * What of a machine's class `maker` can prove recipes for: the class that a delta for such machines
 * is made and kept for. Undefined when there is nothing in common. A version of zstd that the maker
 * has in either form proves what the other form does: the version decides the bytes.
 */
export function commonRecompression(
  machine: Recompression,
  maker: Recompression,
): Recompression | undefined {
  const memory = memoryTier(Math.min(machine.memory, maker.memory));
  if (machine.set !== maker.set || machine.lzma !== maker.lzma || memory === 0) return undefined;
  const { set, lzma, zstd, program } = machine;
  const versions = [maker.zstd, maker.program];
  return {
    ...{ set, memory, lzma },
    ...(zstd !== undefined && zstd === maker.zstd ? { zstd } : {}),
    ...(program !== undefined && versions.includes(program) ? { program } : {}),
  };
}
