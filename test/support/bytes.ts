import { createHash } from 'node:crypto';
import fc from 'fast-check';
import type { Content } from '../../shared/recompress/encoder.ts';

/** All chunks of a stream as one buffer. */
export async function collect(
  stream: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(Uint8Array.from(chunk));
  return Buffer.concat(chunks);
}

/** A stream of `bytes` in chunks of `size`. */
export async function* inChunks(
  bytes: Uint8Array,
  size = bytes.length,
): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** Bytes that nothing makes smaller, the same ones for the same seed. */
export function noise(seed: string, length: number): Buffer {
  return createHash('shake256', { outputLength: length }).update(seed).digest();
}

/** `bytes` as content to be packed, read in chunks of `size`. */
export function contentIn(bytes: Uint8Array, size = bytes.length): Content {
  return { size: bytes.length, open: (from = 0) => inChunks(bytes.subarray(from), size) };
}

/**
 * Byte strings of up to about `maxSize` bytes as files have them: random runs, words of a small
 * vocabulary, long repeats, and copies from near and far.
 */
export function structuredBytes(maxSize: number): fc.Arbitrary<Buffer> {
  const piece = fc.record({
    kind: fc.constantFrom('random', 'words', 'repeat', 'copy'),
    size: fc.oneof(
      fc.integer({ min: 1, max: 400 }),
      fc.integer({ min: 1, max: Math.max(1, maxSize >> 2) }),
    ),
    seed: fc.integer({ min: 1, max: 0x7fffffff }),
  });
  return fc.array(piece, { maxLength: 12 }).map((pieces) => {
    let result = Buffer.alloc(0);
    for (const { kind, size, seed } of pieces) {
      if (result.length + size > maxSize) break;
      result = Buffer.concat([result, pieceOf(kind, size, seed, result)]);
    }
    return result;
  });
}

function pieceOf(kind: string, size: number, seed: number, before: Buffer): Buffer {
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return state >> 8;
  };
  if (kind === 'random') return Buffer.from(Array.from({ length: size }, random));
  if (kind === 'repeat') {
    const unit = Buffer.from(Array.from({ length: 1 + (random() % 9) }, random));
    return Buffer.alloc(size, unit);
  }
  if (kind === 'copy' && before.length > 0) {
    const from = random() % before.length;
    return Buffer.from(before.subarray(from, from + size));
  }
  const words = ['kernel', ' module', '\n', ' of', ' the', ' system', '.TP', ' 0x', 'e', 'st'];
  let text = '';
  while (text.length < size) text += words[random() % words.length];
  return Buffer.from(text.slice(0, size));
}
