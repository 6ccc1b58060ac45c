import { totalmem } from 'node:os';
import type { LayerFormat } from '../../shared/delta/formats.ts';
import {
  ENCODER_SET,
  LZMA_VERSION,
  memoryTier,
  type Recompression,
} from '../../shared/delta/machine-class.ts';
import { createEncoders, type Encoders } from '../../shared/recompress/encoders.ts';
import { zstdEncoder } from '../../shared/recompress/zstd/encoder.ts';
import {
  parseZstdVersion,
  ZSTD_VERSION_ARGUMENTS,
  zstdArguments,
} from '../../shared/recompress/zstd/program.ts';
import { pipeThrough, run } from '../system/run.ts';

/**
 * What this machine can pack with: the encoders that come with the client, and the system's own
 * `zstd`, which made the initrds of systems like it.
 */
export async function findEncoders(): Promise<Encoders> {
  const version = await zstdVersion();
  if (version === undefined) return createEncoders();
  return createEncoders([
    zstdEncoder({
      version,
      collects: false,
      probeSize: () => 1024 ** 2,
      pack: (content, settings) => pipeThrough('zstd', zstdArguments(settings), content),
    }),
  ]);
}

/** Of a machine's memory an encoder may take one part in so many. */
const MEMORY_SHARE = 4;
const MIB = 1024 * 1024;

/** Memory that an encoder may take where the configuration does not say, in bytes. */
export function encoderBytes(configured: number | undefined): number {
  return configured ?? memoryTier(totalmem() / MEMORY_SHARE / MIB) * MIB;
}

/** The formats that can be applied here, most wanted first; `bytes` are what an encoder may take. */
export async function readableFormats(bytes: number): Promise<LayerFormat[]> {
  const recompress = await machineClass(bytes);
  const plain: LayerFormat[] = [{ kind: 'snapgate' }, { kind: 'tar-diff' }];
  return recompress.memory === 0 ? plain : [{ kind: 'snapgate', recompress }, ...plain];
}

/** What this machine packs with: what decides which deltas it can apply. */
async function machineClass(bytes: number): Promise<Recompression> {
  const program = await zstdVersion();
  return {
    ...{ set: ENCODER_SET, memory: memoryTier(bytes / MIB), lzma: LZMA_VERSION },
    zstd: process.versions.zstd,
    ...(program === undefined ? {} : { program }),
  };
}

async function zstdVersion(): Promise<string | undefined> {
  try {
    return parseZstdVersion((await run('zstd', ZSTD_VERSION_ARGUMENTS)).stdout);
  } catch {
    return undefined;
  }
}
