import { dirname, join } from 'node:path';
import { isSea } from 'node:sea';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { SnapgateError } from '../../shared/errors.ts';
import type { Encoder } from '../../shared/recompress/encoder.ts';
import { formatRecipe, parseRecipe } from '../../shared/recompress/recipe.ts';
import { createXzEncoder } from '../../shared/recompress/xz/encoder.ts';
import {
  builtInZstd,
  type ZstdCompressor,
  type ZstdSettings,
} from '../../shared/recompress/zstd/encoder.ts';
import { pipeThrough } from '../system/run.ts';
import { readLiblzma } from './liblzma-file.ts';

/** The first argument of a client that packs its standard input for another one. */
const PACK_ZSTD = 'pack-zstd';
const PACK_XZ = 'pack-xz';
/** Content of a known size up to this many bytes takes little memory, and a process takes time. */
const SMALL_BYTES = 4 * 1024 * 1024;
/** xz that takes at most so many bytes is packed by this process: kernel modules are. */
const SMALL_MEMORY = 64 * 1024 * 1024;

/**
 * The zstd of Node.js in a process of its own: it takes hundreds of megabytes at high levels, and
 * keeps whole contents. They are gone with that process, and this one stays small.
 */
export const zstdApart: ZstdCompressor = {
  ...builtInZstd,
  pack(content, settings, size) {
    const { contentSize = Infinity } = settings;
    if (contentSize <= SMALL_BYTES) return builtInZstd.pack(content, settings, size);
    return packApart([PACK_ZSTD, ...packArguments(settings, size)], content);
  },
};

const xz = createXzEncoder(readLiblzma);

/** xz, in a process of its own where it takes much memory, as for the dictionaries of kernel images. */
export const xzApart: Encoder = {
  ...xz,
  pack(recipe, content) {
    const { memoryBytes } = xz.cost(recipe, content.size);
    if (memoryBytes <= SMALL_MEMORY) return xz.pack(recipe, content);
    return packApart([PACK_XZ, formatRecipe(recipe), String(content.size)], content.open());
  },
};

function packApart(
  command: readonly string[],
  content: AsyncIterable<Uint8Array>,
): AsyncIterable<Uint8Array> {
  const [program = '', ...args] = ownProgram();
  return pipeThrough(program, [...args, ...command], content);
}

/** What runs this very client: a script, a bundle, or an executable that carries it. */
function ownProgram(): string[] {
  if (isSea()) return [process.execPath];
  const here = fileURLToPath(import.meta.url);
  const script = here.endsWith('.ts') ? join(dirname(here), '../main.ts') : here;
  return [process.execPath, script];
}

function packArguments(settings: ZstdSettings, size: number): string[] {
  const { level, workers, checksum, contentSize, windowBytes } = settings;
  const sizes = [size, contentSize ?? 'unknown'];
  return [level, workers, Number(checksum), windowBytes, ...sizes].map(String);
}

/**
 * Packs standard input to standard output, when the arguments are those of a client that does so for
 * another one; undefined when they are not.
 */
export function packForAnother(args: readonly string[]): Promise<void> | undefined {
  const [command, ...rest] = args;
  if (command === PACK_ZSTD) return passOn(packZstd(rest));
  if (command === PACK_XZ) return passOn(packXz(rest));
  return undefined;
}

function passOn(packed: AsyncIterable<Uint8Array>): Promise<void> {
  return pipeline(Readable.from(packed), process.stdout);
}

function packXz([recipe = '', size]: readonly string[]): AsyncIterable<Uint8Array> {
  if (size === undefined) throw notForPeople(PACK_XZ);
  return xz.pack(parseRecipe(recipe), { size: Number(size), open: () => process.stdin });
}

function packZstd(args: readonly string[]): AsyncIterable<Uint8Array> {
  const [level, workers, checksum, windowBytes, size, contentSize] = args.map(Number);
  if (
    level === undefined ||
    workers === undefined ||
    windowBytes === undefined ||
    size === undefined
  ) {
    throw notForPeople(PACK_ZSTD);
  }
  const isKnown = contentSize !== undefined && !Number.isNaN(contentSize);
  const settings = {
    ...{ level, workers, checksum: checksum === 1, windowBytes },
    contentSize: isKnown ? contentSize : undefined,
  };
  return builtInZstd.pack(process.stdin, settings, size);
}

function notForPeople(command: string): SnapgateError {
  return new SnapgateError('USAGE', `${command} is for snaphost itself`);
}
