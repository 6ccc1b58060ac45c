import { totalmem } from 'node:os';
import * as v from 'valibot';
import { formatName, type LayerFormat } from '../../shared/delta/formats.ts';
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
import { xzApart, zstdApart } from './pack-apart.ts';

/**
 * What this machine can pack with: the encoders that come with the client, the zstd of Node.js in a
 * process of its own, and the system's own `zstd`, which made the initrds of systems like it.
 */
export async function findEncoders(): Promise<Encoders> {
  const version = await zstdVersion();
  const own = [xzApart, zstdEncoder(zstdApart)];
  if (version === undefined) return createEncoders(own);
  return createEncoders([
    ...own,
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
  return recompress.memory === 0 ? PLAIN : [{ kind: 'snapgate', recompress }, ...PLAIN];
}

/** The formats that ask for no encoders. */
const PLAIN: LayerFormat[] = [{ kind: 'snapgate' }, { kind: 'tar-diff' }];

/** How long encoders are not used that made other bytes than they must, in milliseconds. */
const DISTRUST_MS = 30 * 24 * 60 * 60 * 1000;

/** Encoders of this machine that made other bytes than they must: the name of its format then. */
export const distrustSchema = v.object({ format: v.string(), time: v.number() });
export type Distrust = v.InferOutput<typeof distrustSchema>;

/**
 * The formats without those that ask for encoders which went wrong here; for a time, and only as long
 * as the machine's class is the same.
 */
export function trustedFormats(
  formats: readonly LayerFormat[],
  distrust: Distrust | undefined,
  now: number = Date.now(),
): LayerFormat[] {
  const isFresh = distrust !== undefined && Math.abs(now - distrust.time) < DISTRUST_MS;
  return formats.filter((format) => !isFresh || formatName(format) !== distrust.format);
}

/** The format that asks for this machine's encoders, by its name. */
export function recompressingFormat(formats: readonly LayerFormat[]): string | undefined {
  const found = formats.find((format) => format.kind === 'snapgate' && format.recompress);
  return found && formatName(found);
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
