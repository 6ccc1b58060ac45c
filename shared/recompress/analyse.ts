import { FORMATS } from './formats.ts';
import {
  type ByteSource,
  DEFAULT_UNPACK_LIMITS,
  type PackedPart,
  type Part,
  type UnpackLimits,
} from './part.ts';

/**
 * Takes a file apart: the compressed streams in it and the runs between them, by what stands at its
 * start. A file of no known kind is one raw part; an empty one has none. Never throws for what the
 * file holds: what is damaged or beyond the limits is raw.
 */
export async function analyse(
  source: ByteSource,
  limits: UnpackLimits = DEFAULT_UNPACK_LIMITS,
): Promise<Part[]> {
  const parts: Part[] = [];
  let offset = 0;
  while (offset < source.size && parts.length < limits.maxParts - 1) {
    const part = await packedAt(source, offset, limits);
    if (part === undefined) break;
    parts.push(part);
    offset += part.size;
  }
  if (offset < source.size) parts.push({ kind: 'raw', offset, size: source.size - offset });
  return parts;
}

async function packedAt(
  source: ByteSource,
  offset: number,
  limits: UnpackLimits,
): Promise<PackedPart | undefined> {
  for (const [format, { measure }] of FORMATS) {
    const size = await measure(source, offset, limits);
    if (size !== undefined) return { kind: 'packed', offset, size, format };
  }
  return undefined;
}
