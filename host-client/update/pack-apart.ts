import { dirname, join } from 'node:path';
import { isSea } from 'node:sea';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { SnapgateError } from '../../shared/errors.ts';
import {
  builtInZstd,
  type ZstdCompressor,
  type ZstdSettings,
} from '../../shared/recompress/zstd/encoder.ts';
import { pipeThrough } from '../system/run.ts';

/** The first argument of a client that packs its standard input for another one. */
export const PACK_COMMAND = 'pack-zstd';
/** Content of a known size up to this many bytes takes little memory, and a process takes time. */
const SMALL_BYTES = 4 * 1024 * 1024;

/**
 * The zstd of Node.js in a process of its own: it takes hundreds of megabytes at high levels, and
 * keeps whole contents. They are gone with that process, and this one stays small.
 */
export const zstdApart: ZstdCompressor = {
  ...builtInZstd,
  pack(content, settings, size) {
    const { contentSize = Infinity } = settings;
    if (contentSize <= SMALL_BYTES) return builtInZstd.pack(content, settings, size);
    const [program = '', ...args] = ownProgram();
    return pipeThrough(program, [...args, PACK_COMMAND, ...packArguments(settings, size)], content);
  },
};

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

/** Packs standard input to standard output as the arguments after {@link PACK_COMMAND} say. */
export async function packStandardInput(args: readonly string[]): Promise<void> {
  const [level, workers, checksum, windowBytes, size, contentSize] = args.map(Number);
  if (
    level === undefined ||
    workers === undefined ||
    windowBytes === undefined ||
    size === undefined
  ) {
    throw new SnapgateError('USAGE', `${PACK_COMMAND} is for snaphost itself`);
  }
  const isKnown = contentSize !== undefined && !Number.isNaN(contentSize);
  const settings = {
    ...{ level, workers, checksum: checksum === 1, windowBytes },
    contentSize: isKnown ? contentSize : undefined,
  };
  const packed = builtInZstd.pack(process.stdin, settings, size);
  await pipeline(Readable.from(packed), process.stdout);
}
