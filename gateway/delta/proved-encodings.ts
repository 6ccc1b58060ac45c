import { createHash } from 'node:crypto';
import type { Recompressor } from '../../shared/delta/layer-delta/reader.ts';
import { type ByteSource, readChunks } from '../../shared/recompress/part.ts';
import type { SpooledStretch } from './open-packed.ts';
import { SpoolFile, stretchSource } from './spool-file.ts';

const HASHED_AT_ONCE = 256 * 1024;

/**
 * What encoders and decoders made of contents while a delta was planned, so that proving it need not
 * have them do it again: they are deterministic, and what they get is known by its digest.
 */
export class ProvedEncodings {
  readonly #made = new Map<string, SpooledStretch>();

  /** A content, by its sha256, was seen to become a stretch of a spool file. */
  add(recipe: Uint8Array, sha256: string, packed: SpooledStretch): void {
    this.#made.set(keyOf(recipe, sha256), packed);
  }

  /** A stretch of a spool file was seen to unpack to another by a method. */
  addUnpacked(method: number, packed: SpooledStretch, content: SpooledStretch): void {
    const spool = new SpoolFile(packed.file);
    try {
      this.#made.set(keyOf(method, sha256Of(stretchSource(spool.read, packed))), content);
    } finally {
      spool.close();
    }
  }

  /** One that runs encoders and decoders only for what was not proved. */
  recompressor(encoders: Recompressor): Recompressor {
    return {
      unpack: (method, packed, size) =>
        this.#known(method, packed, () => encoders.unpack(method, packed, size)),
      encode: (recipe, content, size) =>
        this.#known(recipe, content, () => encoders.encode(recipe, content, size)),
    };
  }

  async *#known(
    how: Uint8Array | number,
    from: ByteSource,
    make: () => AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array, void, void> {
    const made = this.#made.get(keyOf(how, sha256Of(from)));
    if (made === undefined) yield* make();
    else yield* bytesOf(made);
  }
}

/** The digest of a content or of a part of it, in hexadecimal. */
export function sha256Of(content: ByteSource, from = 0, to = content.size): string {
  const hash = createHash('sha256');
  const buffer = Buffer.allocUnsafe(Math.min(HASHED_AT_ONCE, to - from));
  for (let at = from; at < to; ) {
    const count = content.read(buffer.subarray(0, Math.min(buffer.length, to - at)), at);
    if (count <= 0) break;
    hash.update(buffer.subarray(0, count));
    at += count;
  }
  return hash.digest('hex');
}

/** By recipe or method, and the digest of what it is for. */
function keyOf(how: Uint8Array | number, sha256: string): string {
  return `${sha256} ${typeof how === 'number' ? how : Buffer.from(how).toString('latin1')}`;
}

function* bytesOf(stretch: SpooledStretch): Generator<Uint8Array, void, void> {
  const spool = new SpoolFile(stretch.file);
  try {
    yield* readChunks(stretchSource(spool.read, stretch), 0, stretch.size);
  } finally {
    spool.close();
  }
}
