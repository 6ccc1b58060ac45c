import { constants, createZstdCompress, type ZstdOptions, zstdCompressSync } from 'node:zlib';
import { SnapgateError } from '../../errors.ts';
import type { Encoder, PackedStart } from '../encoder.ts';
import { type Recipe, readSettings } from '../recipe.ts';
import { certainHalf, readZstdHeader } from './frame.ts';

const MIB = 1024 ** 2;
const MAX_HEADER = 18;
const MAX_PROBE = 8 * MIB;
/** Large enough to go back to the system by itself when it is freed. */
const COLLECT_BLOCK = 4 * MIB;

/** What one zstd of one version is asked for. */
export type ZstdSettings = {
  readonly level: number;
  /**
   * 0 for one thread that does all; 1 for the multi-threaded mode, which cuts the content into jobs
   * and whose output does not depend on the number of threads.
   */
  readonly workers: number;
  readonly checksum: boolean;
  /** The content's size where it was known beforehand. */
  readonly contentSize: number | undefined;
  /** Bytes that the frame's header tells decoders to keep. */
  readonly windowBytes: number;
};

/** Packs content as one zstd frame; whatever its header says is replaced by the recipe's. */
export type ZstdCompressor = {
  /** As in `1.5.7`; versions write different bytes. */
  readonly version: string;
  /** Whether the multi-threaded mode needs the whole content in memory. */
  readonly collects: boolean;
  /** How much content tells whether the settings are right, 0 where none does. */
  probeSize(settings: ZstdSettings): number;
  /** Packs content of a size in bytes, whether or not the settings know that. */
  pack(
    content: AsyncIterable<Uint8Array>,
    settings: ZstdSettings,
    size: number,
  ): AsyncIterable<Uint8Array>;
};

/** Memory in MiB and seconds per megabyte from a level on; measured with version 1.5.7. */
const COSTS = [
  { level: 22, memory: 740, seconds: 0.6 },
  { level: 21, memory: 400, seconds: 0.6 },
  { level: 20, memory: 250, seconds: 0.6 },
  { level: 16, memory: 160, seconds: 0.5 },
  { level: 13, memory: 110, seconds: 0.2 },
  { level: 1, memory: 80, seconds: 0.05 },
] as const;

function zstdSettings(recipe: Recipe): ZstdSettings {
  const { level, workers } = readSettings(recipe, { level: [1, 22], workers: [0, 1] });
  const header = readZstdHeader(recipe.frame);
  if (header === undefined || header.header.length !== recipe.frame.length) {
    throw new SnapgateError('DELTA_INVALID', 'a recipe has no frame header for zstd');
  }
  const { checksum, contentSize, windowBytes } = header;
  return { level, workers, checksum, contentSize, windowBytes };
}

/** Replaces the header of a frame. */
async function* withHeader(
  frame: AsyncIterable<Uint8Array>,
  header: Uint8Array,
): AsyncGenerator<Uint8Array> {
  let start: Uint8Array | undefined = new Uint8Array(0);
  yield header;
  for await (const bytes of frame) {
    if (start === undefined) {
      yield bytes;
      continue;
    }
    start = Buffer.concat([start, bytes]);
    if (start.length < MAX_HEADER) continue;
    yield start.subarray(readZstdHeader(start)?.header.length ?? 0);
    start = undefined;
  }
  // Shorter than the longest header, and yet whole.
  if (start !== undefined) yield start.subarray(readZstdHeader(start)?.header.length ?? 0);
}

/** The encoder that a compressor makes: `zstd-` and its version. */
export function zstdEncoder(compressor: ZstdCompressor): Encoder {
  return {
    name: `zstd-${compressor.version}`,

    cost(recipe, contentBytes) {
      const { level, workers } = zstdSettings(recipe);
      const cost = COSTS.find((entry) => level >= entry.level) ?? COSTS[0];
      const collected = compressor.collects && workers > 0 ? contentBytes : 0;
      return { memoryBytes: cost.memory * MIB + collected, secondsPerMegabyte: cost.seconds };
    },

    async *pack(recipe, content) {
      const settings = zstdSettings(recipe);
      yield* withHeader(compressor.pack(content.open(), settings, content.size), recipe.frame);
    },

    async probe(recipe, readStart): Promise<PackedStart> {
      const start = await readStart(compressor.probeSize(zstdSettings(recipe)));
      if (start.length === 0) return { offset: 0, bytes: start };
      const settings = { ...zstdSettings(recipe), contentSize: undefined };
      const chunks: Uint8Array[] = [];
      const packed = compressor.pack(once(start), settings, start.length);
      for await (const bytes of packed) chunks.push(bytes);
      const frame = Buffer.concat(chunks);
      const headerSize = readZstdHeader(frame)?.header.length ?? 0;
      return { offset: recipe.frame.length, bytes: certainHalf(frame.subarray(headerSize)) };
    },
  };
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/**
 * Content in one buffer. The blocks that it gathers in are given back while they are copied, so that it
 * is held once.
 */
async function collectWhole(content: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const blocks: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  for await (const bytes of content) {
    for (let done = 0; done < bytes.length; ) {
      const at = size % COLLECT_BLOCK;
      if (at === 0) blocks.push(new Uint8Array(COLLECT_BLOCK));
      const part = bytes.subarray(done, done + COLLECT_BLOCK - at);
      blocks.at(-1)?.set(part, at);
      done += part.length;
      size += part.length;
    }
  }
  const whole = Buffer.allocUnsafeSlow(size);
  for (const [i, block] of blocks.entries()) {
    whole.set(block.subarray(0, size - i * COLLECT_BLOCK), i * COLLECT_BLOCK);
    block.buffer.transfer(0);
  }
  return whole;
}

async function* packWhole(
  content: AsyncIterable<Uint8Array>,
  params: Record<number, number>,
): AsyncGenerator<Uint8Array> {
  const whole = await collectWhole(content);
  // Streams, and the asynchronous call, lose data of more than one job: they take partly consumed
  // input for the end. The synchronous call does not, and holds up the thread for as long as it takes.
  yield zstdCompressSync(whole, { params, chunkSize: MIB });
}

/**
 * Ends the stream only when it has taken everything. Ended while a write waits, Node's stream ends the
 * frame with that write and then adds an empty frame, so that the output would depend on timing.
 */
async function* packStream(
  content: AsyncIterable<Uint8Array>,
  options: ZstdOptions,
): AsyncGenerator<Uint8Array> {
  const zstd = createZstdCompress(options);
  const feed = async () => {
    for await (const bytes of content) {
      await new Promise<void>((resolve, reject) => {
        zstd.write(bytes, (error) => (error ? reject(error) : resolve()));
      });
    }
    zstd.end();
  };
  const fed = feed().catch((error: Error) => void zstd.destroy(error));
  try {
    for await (const packed of zstd) yield packed as Uint8Array;
  } finally {
    zstd.destroy();
  }
  await fed;
}

/**
 * Where the size is not known beforehand, the window of level 22 has zstd look for matches at long
 * distances. A known size may make the window smaller, and these settings what zstd would have chosen
 * (lib/compress/zstd_ldm.c, ZSTD_ldm_adjustParameters).
 */
const LONG_WINDOW = 2 ** 27;
const LONG_DISTANCE = {
  [constants.ZSTD_c_enableLongDistanceMatching]: 1,
  [constants.ZSTD_c_ldmHashLog]: 23,
  [constants.ZSTD_c_ldmHashRateLog]: 4,
};

/**
 * The least that the first job of the multi-threaded mode takes at levels that take much memory: four
 * windows (lib/compress/zstdmt_compress.c, ZSTDMT_computeTargetJobLog).
 */
const FIRST_JOB = [
  { level: 22, bytes: 512 * MIB },
  { level: 21, bytes: 256 * MIB },
  { level: 20, bytes: 128 * MIB },
] as const;

/** Whether zstd keeps a content as its only job: then it takes all that it is given, at once. */
function isOneJob(level: number, size: number): boolean {
  return FIRST_JOB.some((job) => level === job.level && size <= job.bytes);
}

/**
 * The zstd that Node.js has built in. Its multi-threaded mode is always told the size, which changes
 * nothing but the header for content larger than the window.
 */
export const builtInZstd: ZstdCompressor = {
  version: process.versions.zstd ?? 'none',
  collects: true,

  probeSize({ workers, windowBytes }) {
    // A known size below the window's would change the settings.
    if (workers > 0) return windowBytes <= MAX_PROBE ? Math.max(MIB, windowBytes) : 0;
    return MIB;
  },

  async *pack(content, { level, workers, checksum, contentSize, windowBytes }, size) {
    const params = {
      [constants.ZSTD_c_compressionLevel]: level,
      [constants.ZSTD_c_checksumFlag]: Number(checksum),
    };
    if (workers > 0) {
      const long = windowBytes === LONG_WINDOW && contentSize === undefined;
      const all = { ...params, ...(long ? LONG_DISTANCE : {}), [constants.ZSTD_c_nbWorkers]: 1 };
      if (isOneJob(level, size)) yield* packStream(content, { params: all, pledgedSrcSize: size });
      else yield* packWhole(content, all);
      return;
    }
    const pledged = contentSize === undefined ? {} : { pledgedSrcSize: contentSize };
    yield* packStream(content, { params, ...pledged });
  },
};
