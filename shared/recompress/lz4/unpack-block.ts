import { SnapgateError } from '../../errors.ts';

function damaged(): SnapgateError {
  return new SnapgateError('LIMIT_EXCEEDED', 'an LZ4 block is damaged or too large');
}

/**
 * Unpacks one LZ4 block (the LZ4 block format) into `target` and returns how many bytes it gave.
 * Throws LIMIT_EXCEEDED where the block is damaged or gives more than `target` holds.
 */
export function unpackLz4Block(packed: Uint8Array, target: Uint8Array): number {
  let at = 0;
  let size = 0;
  const length = (start: number) => {
    let total = start;
    for (let more = start === 15; more; ) {
      const byte = packed[at++];
      if (byte === undefined) throw damaged();
      total += byte;
      more = byte === 255;
    }
    return total;
  };
  while (at < packed.length) {
    const token = packed[at++] as number;
    const literals = length(token >> 4);
    if (at + literals > packed.length || size + literals > target.length) throw damaged();
    target.set(packed.subarray(at, at + literals), size);
    at += literals;
    size += literals;
    if (at === packed.length) return size;
    const distance = (packed[at] as number) | ((packed[at + 1] ?? 0) << 8);
    at += 2;
    const count = length(token & 15) + 4;
    if (distance === 0 || distance > size || size + count > target.length) throw damaged();
    if (distance >= count) target.copyWithin(size, size - distance, size - distance + count);
    else for (let i = size; i < size + count; i++) target[i] = target[i - distance] as number;
    size += count;
  }
  throw damaged();
}
