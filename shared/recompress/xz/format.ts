import type { Format } from '../format.ts';
import type { Recipe } from '../recipe.ts';
import { readXzStream, type XzBlock, type XzStream } from './container.ts';
import { MAX_BLOCK, MAX_DICTIONARY } from './encoder.ts';
import { FILTER_DELTA, FILTER_LZMA2, loadLiblzma, unpackXz } from './liblzma.ts';

/** What a decoder takes beyond the dictionary. */
const DECODER_OVERHEAD = 4 * 1024 ** 2;

/** Presets by dictionary size: those of `xz`, whose dictionary it is, and what packagers choose. */
function likelyPresets(dictionary: number): (readonly [preset: number, extreme: number])[] {
  const own: Readonly<Record<number, readonly number[]>> = {
    [2 ** 18]: [0],
    [2 ** 20]: [6, 1],
    [2 ** 21]: [6, 2],
    [2 ** 22]: [3, 4],
    [2 ** 23]: [6, 5],
  };
  const presets = own[dictionary] ?? [6];
  return [
    ...presets.map((preset) => [preset, 0] as const),
    ...presets.map((preset) => [preset, 1] as const),
  ];
}

/** The dictionary size that LZMA2's property byte stands for (xz file format, section 5.3.1). */
function dictionarySize(property: number): number {
  return (2 | (property & 1)) * 2 ** (Math.floor(property / 2) + 11);
}

function sameShape(a: XzBlock, b: XzBlock): boolean {
  const filters = (block: XzBlock) =>
    block.filters.map(({ id, properties }) => `${id}:${properties.join()}`).join(' ');
  return (
    a.headerSize === b.headerSize &&
    a.sizesInHeader === b.sizesInHeader &&
    filters(a) === filters(b)
  );
}

/** Settings that all blocks share, or undefined where the blocks are of different kinds. */
function commonSettings({ check, blocks }: XzStream): Record<string, number> | undefined {
  const [first, ...others] = blocks;
  const lzma2 = first?.filters.at(-1);
  const property = lzma2?.properties[0];
  if (first === undefined || lzma2?.id !== FILTER_LZMA2 || property === undefined) return undefined;
  if (first.filters.length > 2 || property > 30) return undefined;
  const blockSize = others.length > 0 ? first.unpackedSize : 0;
  const [before] = first.filters.length > 1 ? first.filters : [];
  const uniform = others.every(
    (block, index) =>
      sameShape(first, block) &&
      (index === others.length - 1
        ? block.unpackedSize <= blockSize
        : block.unpackedSize === blockSize),
  );
  if (!uniform) return undefined;
  const properties = blocks.find((block) => block.lzmaProperties !== undefined)?.lzmaProperties;
  const [lc, lp, pb] = literalBits(properties ?? 0x5d);
  return {
    ...{ check, blockSize, headerSize: first.headerSize },
    sizes: Number(first.sizesInHeader),
    filter: before?.id ?? 0,
    distance: before?.id === FILTER_DELTA ? (before.properties[0] ?? 0) + 1 : 0,
    ...{ dictionary: dictionarySize(property), lc, lp, pb },
  };
}

/** lc, lp and pb of LZMA's property byte. */
function literalBits(byte: number): readonly [number, number, number] {
  return [byte % 9, Math.floor(byte / 9) % 5, Math.floor(byte / 45)];
}

/** xz streams with LZMA2, after at most one other filter. */
export const xzFormat: Format = {
  name: 'xz',

  measure(source, offset, limits) {
    const stream = readXzStream(source, offset);
    if (stream === undefined) return Promise.resolve(undefined);
    const unpacked = stream.blocks.reduce((sum, block) => sum + block.unpackedSize, 0);
    const tooMuch =
      unpacked > limits.maxUnpackedBytes ||
      unpacked > Math.max(1024 ** 2, stream.size * limits.maxRatio);
    const dictionaries = stream.blocks.map((block) =>
      dictionarySize(block.filters.at(-1)?.properties[0] ?? 255),
    );
    const usable = !tooMuch && dictionaries.every((size) => size <= limits.maxWindowBytes);
    return Promise.resolve(usable ? stream.size : undefined);
  },

  async *unpack(open, limits) {
    yield* unpackXz(await loadLiblzma(), open(), limits.maxWindowBytes + DECODER_OVERHEAD);
  },

  propose(source, part) {
    const stream = readXzStream(source, part.offset);
    const settings = stream === undefined ? undefined : commonSettings(stream);
    if (settings === undefined || (settings.dictionary ?? 0) > MAX_DICTIONARY) return [];
    if (stream?.blocks.some((block) => block.unpackedSize > MAX_BLOCK)) return [];
    return likelyPresets(settings.dictionary ?? 0).map(([preset, extreme]) => ({
      encoder: 'xz',
      settings: { ...settings, preset, extreme },
      frame: new Uint8Array(0),
    })) satisfies Recipe[];
  },
};
