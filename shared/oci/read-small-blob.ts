import { SnapgateError } from '../errors.ts';
import type { ContentReader } from './content.ts';
import type { Descriptor } from './manifest.ts';

/** Reads a whole blob of at most `limit` bytes. Throws LIMIT_EXCEEDED before reading a larger one. */
export async function readSmallBlob(
  reader: ContentReader,
  blob: Pick<Descriptor, 'digest' | 'size'>,
  limit: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  if (blob.size > limit) {
    throw new SnapgateError('LIMIT_EXCEEDED', `blob ${blob.digest} is larger than ${limit} bytes`, {
      where: reader.name,
    });
  }
  const chunks: Uint8Array[] = [];
  const options = signal === undefined ? {} : { signal };
  for await (const chunk of reader.openBlob(blob, options)) chunks.push(chunk);
  return Buffer.concat(chunks);
}
