import { createHash } from 'node:crypto';
import type { Recompressor } from '../../shared/delta/layer-delta/reader.ts';
import type { SourceFile } from '../../shared/delta/piece.ts';
import { type ByteSource, readChunks } from '../../shared/recompress/part.ts';
import type { SpooledStretch } from './open-packed.ts';
import { SpoolFile } from './spool-file.ts';

/**
 * What encoders made of contents while a delta was planned, so that proving it need not have them do
 * it again: an encoder is deterministic, and a content is known by its digest.
 */
export class ProvedEncodings {
  readonly #packed = new Map<string, SpooledStretch>();

  /** A content, by its sha256, was seen to become a stretch of a spool file. */
  add(recipe: Uint8Array, sha256: string, packed: SpooledStretch): void {
    this.#packed.set(keyOf(recipe, sha256), packed);
  }

  /** One that runs the encoders only for what was not proved. */
  recompressor(encoders: Recompressor): Recompressor {
    return {
      unpack: (method, packed, size) => encoders.unpack(method, packed, size),
      encode: (recipe, content, size) => this.#encode(encoders, recipe, content, size),
    };
  }

  async *#encode(
    ...[encoders, recipe, content, size]: [Recompressor, Uint8Array, SourceFile, number]
  ): AsyncGenerator<Uint8Array, void, void> {
    const packed = this.#packed.get(keyOf(recipe, sha256Of(content)));
    if (packed === undefined) yield* encoders.encode(recipe, content, size);
    else yield* stretchOf(packed);
  }
}

/** The digest of a content or of a part of it, in hexadecimal. */
export function sha256Of(content: ByteSource, from = 0, to = content.size): string {
  const hash = createHash('sha256');
  for (const bytes of readChunks(content, from, to - from)) hash.update(bytes);
  return hash.digest('hex');
}

function keyOf(recipe: Uint8Array, sha256: string): string {
  return `${sha256} ${Buffer.from(recipe).toString('latin1')}`;
}

function* stretchOf({ file, offset, size }: SpooledStretch): Generator<Uint8Array, void, void> {
  const spool = new SpoolFile(file);
  try {
    const read = (target: Uint8Array, at: number) => {
      const count = Math.max(0, Math.min(target.length, size - at));
      spool.read(target.subarray(0, count), offset + at);
      return count;
    };
    yield* readChunks({ size, read }, 0, size);
  } finally {
    spool.close();
  }
}
