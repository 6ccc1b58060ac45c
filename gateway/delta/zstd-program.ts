import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { ENCODER_SET, LZMA_VERSION, type Recompression } from '../../shared/delta/machine-class.ts';
import { SnapgateError } from '../../shared/errors.ts';
import { createEncoders, type Encoders } from '../../shared/recompress/encoders.ts';
import { createXzEncoder } from '../../shared/recompress/xz/encoder.ts';
import { type ZstdCompressor, zstdEncoder } from '../../shared/recompress/zstd/encoder.ts';
import {
  parseZstdVersion,
  ZSTD_VERSION_ARGUMENTS,
  zstdArguments,
} from '../../shared/recompress/zstd/program.ts';
import { readLiblzma } from './liblzma-file.ts';

const PROGRAM = 'zstd';

/** The encoders of this machine: those that come with Snapgate, and the `zstd` that is installed. */
export async function findEncoders(): Promise<Encoders> {
  const version = await zstdVersion();
  const program = version === undefined ? [] : [zstdEncoder(programOf(version))];
  return createEncoders([createXzEncoder(readLiblzma), ...program]);
}

/** What this machine can prove recipes with, where an encoder may take so much memory, in MiB. */
export async function ownRecompression(memory: number): Promise<Recompression> {
  const program = await zstdVersion();
  return {
    ...{ set: ENCODER_SET, memory, lzma: LZMA_VERSION, zstd: process.versions.zstd },
    ...(program === undefined ? {} : { program }),
  };
}

/**
 * Those of `found`, the encoders of this machine, that every machine of a class has. A version of zstd
 * that such machines have as a program is proved by that inside of Node.js where it is the same.
 */
export function encodersFor(found: Encoders, { zstd, program }: Recompression): Encoders {
  const versions = [zstd, program].map((version) => `zstd-${version}`);
  const mayHave = (name: string) => !/^zstd-\d/.test(name) || versions.includes(name);
  const common = new Map([...createEncoders()].filter(([name]) => mayHave(name)));
  for (const name of ['xz', `zstd-${program}`]) {
    const own = found.get(name);
    if (own !== undefined) common.set(name, own);
  }
  return common;
}

/** Version of the `zstd` that is installed; undefined when none is. */
export async function zstdVersion(): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)(PROGRAM, ZSTD_VERSION_ARGUMENTS);
    return parseZstdVersion(stdout);
  } catch {
    return undefined;
  }
}

function programOf(version: string): ZstdCompressor {
  return {
    version,
    collects: false,
    probeSize: () => 1024 ** 2,
    async *pack(content, settings) {
      const child = spawn(PROGRAM, zstdArguments(settings), { stdio: ['pipe', 'pipe', 'ignore'] });
      const ended = exitOf(child);
      // What goes wrong with the input shows in the exit status, except for what reading it throws.
      let reason: unknown;
      const fed = pipeline(Readable.from(content), child.stdin).catch((thrown: unknown) => {
        reason = thrown;
        child.kill();
      });
      try {
        yield* child.stdout;
        const status = await ended;
        await fed;
        if (status !== 0) throw failed(status, reason);
      } finally {
        child.kill();
        await ended;
        await fed;
      }
    },
  };
}

function exitOf(child: ChildProcess): Promise<number | string> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('close', (status, signal) => resolve(status ?? String(signal)));
  });
}

function failed(status: number | string, cause: unknown): SnapgateError {
  return new SnapgateError('COMMAND_FAILED', `${PROGRAM} failed (${status})`, { cause });
}
