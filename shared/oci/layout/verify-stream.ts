import { createHash } from 'node:crypto';
import { SnapgateError } from '../../errors.ts';
import type { Descriptor } from '../manifest.ts';

/**
 * Passes a blob's bytes on while checking them. Never yields more than `size` bytes; the last chunk
 * is yielded only when the whole is right. Throws SIZE_INVALID, DIGEST_INVALID.
 */
export async function* verifyStream(
  body: AsyncIterable<Uint8Array>,
  blob: Pick<Descriptor, 'digest' | 'size'>,
  where: string,
): AsyncGenerator<Uint8Array> {
  const hash = createHash('sha256');
  let seen = 0;
  let held: Uint8Array | undefined;
  for await (const chunk of body) {
    seen += chunk.byteLength;
    if (seen > blob.size) throw wrongSize(blob, seen, where);
    hash.update(chunk);
    if (held !== undefined) yield held;
    held = chunk;
  }
  if (seen !== blob.size) throw wrongSize(blob, seen, where);
  const actual = `sha256:${hash.digest('hex')}`;
  if (actual !== blob.digest) {
    throw new SnapgateError('DIGEST_INVALID', `blob ${blob.digest} has digest ${actual}`, {
      where,
    });
  }
  if (held !== undefined) yield held;
}

function wrongSize(
  blob: Pick<Descriptor, 'digest' | 'size'>,
  seen: number,
  where: string,
): SnapgateError {
  const how = seen > blob.size ? `more than its ${blob.size}` : `${seen} of its ${blob.size}`;
  return new SnapgateError('SIZE_INVALID', `blob ${blob.digest} has ${how} bytes`, { where });
}
