import { formatName, type LayerFormat } from '../../shared/delta/formats.ts';
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

/** The names of the formats that can be applied here, most wanted first. */
export async function readableFormats(): Promise<string[]> {
  const zstd = await zstdVersion();
  const recompressing: LayerFormat[] = [{ kind: 'snapgate', recompress: {} }];
  if (zstd !== undefined) recompressing.unshift({ kind: 'snapgate', recompress: { zstd } });
  const formats: LayerFormat[] = [...recompressing, { kind: 'snapgate' }, { kind: 'tar-diff' }];
  return formats.map(formatName);
}

async function zstdVersion(): Promise<string | undefined> {
  try {
    return parseZstdVersion((await run('zstd', ZSTD_VERSION_ARGUMENTS)).stdout);
  } catch {
    return undefined;
  }
}
